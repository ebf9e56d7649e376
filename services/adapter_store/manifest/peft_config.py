"""Reads adapter_config.json: what the weights mean, and every option that is not served, refused by name.

Source: the fields of peft.LoraConfig (0.21). A field that is unknown here and says anything is refused:
an option that is silently ignored would give wrong answers.
"""

import math
import re
from dataclasses import dataclass
from typing import Any

from services.adapter_store.domain.base_model import BaseModel, last_component
from services.adapter_store.domain.fields import quoted
from services.adapter_store.manifest.file_list import CONFIG_PATH
from services.adapter_store.manifest.module_pattern import compile_patterns
from services.adapter_store.manifest.refusals import malformed, mismatch, unsupported
from services.adapter_store.manifest.strict_json import parse_object

# Read below.
_READ = {
    "peft_type", "task_type", "base_model_name_or_path", "bias", "init_lora_weights", "r", "lora_alpha",
    "rank_pattern", "alpha_pattern", "use_rslora", "use_dora", "target_modules",
}  # fmt: skip
# Say how training was set up; the weights in the file already are what came of it.
_TRAINING_ONLY = {
    "auto_mapping", "peft_version", "revision", "inference_mode", "lora_dropout", "exclude_modules",
    "layers_to_transform", "layers_pattern", "megatron_core", "loftq_config", "eva_config", "corda_config",
    "lora_ga_config", "qalora_group_size", "runtime_config",
}  # fmt: skip
# Change what the weights mean. Absent, null, false and empty are fine.
_REFUSED = {
    "fan_in_fan_out": "weights stored as [in, out] are not served",
    "modules_to_save": "whole modules besides LoRA are not served",
    "megatron_config": "Megatron's parallel layers are not served",
    "trainable_token_indices": "single trained tokens are not served",
    "velora_config": "VeLoRA is not served",
    "alora_invocation_tokens": "activated LoRA is not served",
    "use_qalora": "QALoRA is not served",
    "monteclora_config": "MonteCLoRA is not served",
    "layer_replication": "replicated layers are not served",
    "lora_bias": "a bias in LoRA B is not served",
    "target_parameters": "LoRA on bare parameters is not served",
    "use_bdlora": "block-diagonal LoRA is not served",
    "arrow_config": "Arrow routing is not served",
    "kasa_config": "KaSA is not served",
    "ensure_weight_tying": "adapters tied across layers are not served",
}
# These start from the base model's own weights, or from data, and leave the base model as it is.
_PLAIN_STARTS = (True, False, None, "gaussian", "eva", "orthogonal", "mica")
_TASKS = (None, "CAUSAL_LM")


@dataclass(frozen=True, slots=True)
class PeftConfig:
    """What adapter_config.json says of the weights."""

    r: int
    lora_alpha: float
    ranks: tuple[tuple[re.Pattern[str], int], ...]
    rslora: bool
    dora: bool
    target_modules: tuple[str, ...] | None

    def rank_of(self, path: str) -> int:
        """The rank that the config gives module `path`, such as `model.layers.0.mlp.up_proj`."""
        return next((rank for pattern, rank in self.ranks if pattern.match(path)), self.r)

    def targets(self, path: str) -> bool:
        """Whether the config's list of target modules covers `path`; True if it has no list."""
        if self.target_modules is None:
            return True
        return any(path == target or path.endswith("." + target) for target in self.target_modules)


def read_config(data: bytes, base_model: BaseModel) -> PeftConfig:
    """`data`, the bytes of adapter_config.json, judged against `base_model`.

    Raises INVALID_ADAPTER, UNSUPPORTED_ADAPTER or BASE_MODEL_MISMATCH naming the key.
    """
    try:
        config = parse_object(data)
    except ValueError as error:
        raise malformed(CONFIG_PATH, f"is no JSON object: {error}; save the adapter again") from error
    _refuse_unsupported(config)
    _check_base_model(config.get("base_model_name_or_path"), base_model)
    rank_pattern, alpha_pattern = _pattern(config, "rank_pattern"), _pattern(config, "alpha_pattern")
    rank_regexes = compile_patterns("rank_pattern", rank_pattern)
    compile_patterns("alpha_pattern", alpha_pattern)
    for key, alpha in alpha_pattern.items():
        _number(alpha, f"alpha_pattern[{key}]")
    ranks = [_rank(rank, f"rank_pattern[{key}]") for key, rank in rank_pattern.items()]
    return PeftConfig(
        r=_rank(config.get("r"), "r"),
        lora_alpha=_number(config.get("lora_alpha"), "lora_alpha"),
        ranks=tuple(zip(rank_regexes, ranks, strict=True)),
        rslora=_flag(config, "use_rslora"),
        dora=_flag(config, "use_dora"),
        target_modules=_target_modules(config.get("target_modules")),
    )


def _refuse_unsupported(config: dict[str, Any]) -> None:
    retrain = "train the adapter without it"
    if config.get("peft_type") != "LORA":
        raise unsupported("peft_type", "must be LORA: only LoRA adapters are served")
    if config.get("task_type") not in _TASKS:
        raise unsupported(
            "task_type", "must be CAUSAL_LM or null: only adapters of causal language models are served"
        )
    if config.get("bias") not in (None, "none"):
        raise unsupported("bias", f'must be "none": trained biases are not served; {retrain}')
    # `in` alone would let 1 and 0 pass for True and False.
    start = config.get("init_lora_weights", True)
    if start not in _PLAIN_STARTS or (isinstance(start, int | float) and not isinstance(start, bool)):
        raise unsupported(
            "init_lora_weights",
            "this start changes the base model's weights, so the adapter would not fit the base that is "
            "served: convert it to plain LoRA with PEFT's path_initial_model_for_weight_conversion",
        )
    for key, value in config.items():
        if key in _READ or key in _TRAINING_ONLY or not value:
            continue
        why = _REFUSED.get(key, "this option is unknown here, and ignoring it could give wrong answers")
        raise unsupported(key, f"{why}; {retrain}")


def _check_base_model(trained_on: Any, base_model: BaseModel) -> None:
    if trained_on is None or trained_on == "":
        return
    if not isinstance(trained_on, str):
        raise malformed("base_model_name_or_path", "must be a string")
    if last_component(trained_on) != base_model.last_component:
        raise mismatch(
            "base_model_name_or_path",
            f"the adapter was trained on {quoted(trained_on)}, but its base model here is "
            f"{quoted(base_model.name)}: upload it to an adapter of the right base model; if both are the "
            f"same weights, put {quoted(base_model.name)} into adapter_config.json",
        )


def _pattern(config: dict[str, Any], option: str) -> dict[str, Any]:
    pattern = config.get(option)
    if pattern is None:
        return {}
    if not isinstance(pattern, dict):
        raise malformed(option, "must map module names to numbers")
    return pattern


def _rank(value: Any, field: str) -> int:
    if type(value) is not int or not 0 < value < 1 << 31:
        raise malformed(field, "must be a rank: a whole number above 0")
    return value


def _number(value: Any, field: str) -> float:
    if type(value) not in (int, float) or abs(value) > 1e9 or not math.isfinite(value):
        raise malformed(field, "must be a finite number of sensible size")
    return float(value)


def _flag(config: dict[str, Any], key: str) -> bool:
    value = config.get(key)
    if value not in (None, True, False) or type(value) not in (bool, type(None)):
        raise malformed(key, "must be true or false")
    return bool(value)


def _target_modules(value: Any) -> tuple[str, ...] | None:
    # A string is a pattern (or `all-linear`) that PEFT has resolved: the tensors say to what.
    if value is None or isinstance(value, str):
        return None
    if not isinstance(value, list) or not all(isinstance(target, str) for target in value):
        raise malformed("target_modules", "must be a list of module names, or a pattern")
    return tuple(value)
