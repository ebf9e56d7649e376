"""adapter_config.json as PEFT writes it: rank and scale of every module, and what is not served.

Must not know tensors or models. Semantics: PEFT's LoraConfig and `get_pattern_key`.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from services.common.errors import Code, Reason, ServiceError

# Keys that say how the adapter was trained, or that the tensors' names say as well.
_WITHOUT_EFFECT = frozenset(
    {
        "auto_mapping",
        "base_model_name_or_path",
        "corda_config",
        "eva_config",
        "exclude_modules",
        "inference_mode",
        "layers_pattern",
        "layers_to_transform",
        "loftq_config",
        "lora_dropout",
        "lora_ga_config",
        "megatron_core",
        "peft_version",
        "qalora_group_size",
        "revision",
        "runtime_config",
        "target_modules",
        "task_type",
    }
)
_UNDERSTOOD = frozenset(
    {
        "alpha_pattern",
        "bias",
        "init_lora_weights",
        "lora_alpha",
        "peft_type",
        "r",
        "rank_pattern",
        "use_dora",
        "use_rslora",
    }
)
# Others change the base weights, which nobody else's adapter would survive.
_SERVED_INITS = (True, False, None, "gaussian", "eva", "orthogonal")
T = TypeVar("T")

MAX_PATTERN_CHARS = 256
MAX_PATTERN_REPEATS = 3
MAX_CONFIG_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class PeftConfig:
    """What an adapter's config says of its arithmetic."""

    r: int
    lora_alpha: float
    use_rslora: bool
    use_dora: bool
    rank_pattern: Mapping[str, int]
    alpha_pattern: Mapping[str, float]

    def rank(self, module: str) -> int:
        """Rank of the module at path `module` in the base model, e.g. model.layers.0.mlp.up_proj."""
        return _by_pattern(self.rank_pattern, module, self.r)

    def scale(self, module: str) -> float:
        """alpha / r of that module; alpha / sqrt(r) for rsLoRA (Kalajdzievski 2023)."""
        rank, alpha = self.rank(module), _by_pattern(self.alpha_pattern, module, self.lora_alpha)
        return alpha / math.sqrt(rank) if self.use_rslora else alpha / rank


def _by_pattern(pattern: Mapping[str, T], module: str, default: T) -> T:
    for expression, value in pattern.items():
        if re.match(rf"(.*\.)?({expression})$", module):
            return value
    return default


def read_peft_config(path: Path) -> PeftConfig:
    """Reads `path`. Raises ServiceError naming the key that is wrong or not served."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_CONFIG_BYTES + 1)
    except OSError as error:
        raise invalid(path.name, f"cannot be read: {error}") from error
    return parse_peft_config(content, path.name)


def parse_peft_config(content: bytes, name: str) -> PeftConfig:
    """What the bytes of the config file `name` say. Raises as `read_peft_config`."""
    if len(content) > MAX_CONFIG_BYTES:
        raise invalid(name, f"is larger than {MAX_CONFIG_BYTES} bytes")
    try:
        raw = json.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise invalid(name, f"cannot be read: {error}") from error
    if not isinstance(raw, dict):
        raise invalid(name, "must be a JSON object")
    _refuse_unsupported(raw)
    return PeftConfig(
        r=_positive_int(raw.get("r"), "r"),
        lora_alpha=_finite(raw.get("lora_alpha"), "lora_alpha"),
        use_rslora=_bool(raw.get("use_rslora"), "use_rslora"),
        use_dora=_bool(raw.get("use_dora"), "use_dora"),
        rank_pattern={key: _positive_int(value, name) for key, value, name in _pattern(raw, "rank_pattern")},
        alpha_pattern={key: _finite(value, name) for key, value, name in _pattern(raw, "alpha_pattern")},
    )


def invalid(field: str, message: str) -> ServiceError:
    """The adapter's files are no LoRA adapter; `field` is the key or tensor at fault."""
    return ServiceError(Code.INVALID_ARGUMENT, Reason.INVALID_ADAPTER, f"{field}: {message}", field=field)


def unsupported(field: str, message: str) -> ServiceError:
    """The adapter uses something of PEFT that is not served."""
    return ServiceError(
        Code.FAILED_PRECONDITION, Reason.UNSUPPORTED_ADAPTER, f"{field}: {message}", field=field
    )


def _refuse_unsupported(raw: dict[str, Any]) -> None:
    if raw.get("peft_type") != "LORA":
        raise unsupported("peft_type", f"{raw.get('peft_type')!r} is not served; only LORA is")
    if raw.get("bias", "none") != "none":
        raise unsupported("bias", f"{raw['bias']!r} is not served; train with bias='none'")
    init = raw.get("init_lora_weights", True)
    if not any(init is served or (isinstance(init, str) and init == served) for served in _SERVED_INITS):
        raise unsupported("init_lora_weights", f"{init!r} changes the base weights; convert it first")
    for key in sorted(raw.keys() - _WITHOUT_EFFECT - _UNDERSTOOD):
        if raw[key]:
            raise unsupported(key, f"{str(raw[key])[:80]} is not served; train without it")


def _pattern(raw: dict[str, Any], name: str) -> list[tuple[str, Any, str]]:
    pattern = raw.get(name) or {}
    if not isinstance(pattern, dict):
        raise invalid(name, "must be an object of patterns")
    for expression in pattern:
        _check_expression(expression, f"{name}.{expression[:80]}")
    return [(key, value, f"{name}.{key}") for key, value in pattern.items()]


def _check_expression(expression: str, field: str) -> None:
    if len(expression) > MAX_PATTERN_CHARS:
        raise invalid(field, f"a pattern has at most {MAX_PATTERN_CHARS} characters")
    # A repeated group can take exponential time to match: that is an attack, not a module's name.
    if re.search(r"\)[*+{]", expression) or len(re.findall(r"[*+{]", expression)) > MAX_PATTERN_REPEATS:
        raise unsupported(field, f"repeats a group, or has more than {MAX_PATTERN_REPEATS} repeats")
    try:
        re.compile(rf"(.*\.)?({expression})$")
    except re.error as error:
        raise invalid(field, f"is no regular expression: {error}") from error


def _positive_int(value: Any, field: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise invalid(field, f"must be a whole number of at least 1, not {value!r}")
    return value


def _finite(value: Any, field: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise invalid(field, f"must be a number, not {value!r}")
    return float(value)


def _bool(value: Any, field: str) -> bool:
    if value is not None and not isinstance(value, bool):
        raise invalid(field, f"must be true or false, not {value!r}")
    return bool(value)
