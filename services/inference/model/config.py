"""A model directory's config.json as the decoder needs it, and the base model it registers as.

Must not know torch: the front end and the client read configs too.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.common.errors import Code, Reason, ServiceError

ARCHITECTURES = {
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "mistral",
    "Qwen2ForCausalLM": "qwen2",
    "Qwen3ForCausalLM": "qwen3",
}


@dataclass(frozen=True, slots=True)
class RopeConfig:
    """Rotary embedding; `factor` 1 means plain. llama3 scaling as in Llama 3.1's own code."""

    theta: float
    kind: str = "default"
    factor: float = 1.0
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_context_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Module:
    """A linear (or embedding) that LoRA may target; `name` is its path below a layer or the model."""

    name: str
    in_features: int
    out_features: int


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """Shapes and switches of one decoder. Sizes are in elements, contexts in tokens."""

    architecture: str
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    vocab_size: int
    max_context_tokens: int
    norm_eps: float
    rope: RopeConfig
    tie_word_embeddings: bool
    qkv_bias: bool
    qk_norm: bool
    sliding_window_tokens: int | None
    first_window_layer: int = 0

    def window_tokens(self, layer: int) -> int | None:
        """Keys that a row of `layer` sees at most, its own among them; None means all."""
        return self.sliding_window_tokens if layer >= self.first_window_layer else None

    @property
    def q_size(self) -> int:
        """Width of the query projection's output."""
        return self.num_heads * self.head_dim

    @property
    def kv_size(self) -> int:
        """Width of the key (or value) projection's output."""
        return self.num_kv_heads * self.head_dim

    def layer_modules(self) -> tuple[Module, ...]:
        """The linear modules of one layer, in the order of their sites."""
        hidden, inner = self.hidden_size, self.intermediate_size
        return (
            Module("self_attn.q_proj", hidden, self.q_size),
            Module("self_attn.k_proj", hidden, self.kv_size),
            Module("self_attn.v_proj", hidden, self.kv_size),
            Module("self_attn.o_proj", self.q_size, hidden),
            Module("mlp.gate_proj", hidden, inner),
            Module("mlp.up_proj", hidden, inner),
            Module("mlp.down_proj", inner, hidden),
        )

    def model_modules(self) -> tuple[Module, ...]:
        """The modules outside the layers."""
        return (
            Module("embed_tokens", self.vocab_size, self.hidden_size),
            Module("lm_head", self.hidden_size, self.vocab_size),
        )


def read_config(model_dir: Path) -> ModelConfig:
    """Reads `model_dir`/config.json. Raises ServiceError INVALID_ARGUMENT naming the key at fault."""
    path = model_dir / "config.json"
    try:
        raw = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise _bad("config.json", f"cannot be read in {model_dir}: {error}") from error
    if not isinstance(raw, dict):
        raise _bad("config.json", f"in {model_dir} is no JSON object")
    architecture = _architecture(raw)
    family = ARCHITECTURES[architecture]
    if raw.get("hidden_act", "silu") != "silu":
        raise _bad("hidden_act", f"{raw['hidden_act']!r} is not served; only silu is")
    for key in ("attention_bias", "mlp_bias"):
        if raw.get(key):
            raise _bad(key, f"{architecture} with these biases is not served")
    if raw.get("partial_rotary_factor", 1.0) != 1.0:
        raise _bad("partial_rotary_factor", "rotary embedding of a part of each head is not served")
    if raw.get("quantization_config"):
        raise _bad("quantization_config", "quantized checkpoints are not served; give the original weights")
    return _from_raw(raw, architecture, family)


def _architecture(raw: dict[str, Any]) -> str:
    names = raw.get("architectures")
    name = names[0] if isinstance(names, list) and names else None
    if name not in ARCHITECTURES:
        known = ", ".join(sorted(ARCHITECTURES))
        raise _bad("architectures", f"{name!r} is not served; known are {known}")
    return str(name)


def _from_raw(raw: dict[str, Any], architecture: str, family: str) -> ModelConfig:
    hidden_size = _whole(raw, "hidden_size")
    num_heads = _whole(raw, "num_attention_heads")
    num_kv_heads = _whole(raw, "num_key_value_heads", num_heads)
    if num_heads % num_kv_heads:
        raise _bad("num_key_value_heads", f"must divide num_attention_heads, {num_heads}, not {num_kv_heads}")
    window = _window_tokens(raw, family)
    return ModelConfig(
        architecture=architecture,
        hidden_size=hidden_size,
        intermediate_size=_whole(raw, "intermediate_size"),
        num_layers=_whole(raw, "num_hidden_layers"),
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        head_dim=_whole(raw, "head_dim", hidden_size // num_heads),
        vocab_size=_whole(raw, "vocab_size"),
        max_context_tokens=_whole(raw, "max_position_embeddings"),
        norm_eps=_number(raw, "rms_norm_eps"),
        rope=_rope(raw),
        tie_word_embeddings=bool(raw.get("tie_word_embeddings", False)),
        qkv_bias=family == "qwen2",
        qk_norm=family == "qwen3",
        sliding_window_tokens=window,
        first_window_layer=_first_window_layer(raw, family) if window else 0,
    )


def _whole(raw: dict[str, Any], key: str, default: int | None = None) -> int:
    value = raw.get(key)
    if value is None:
        if default is None:
            raise _bad(key, "is missing from config.json")
        return default
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise _bad(key, f"must be a whole number from 1 on, not {value!r}")
    return value


def _number(raw: dict[str, Any], key: str, default: float | None = None) -> float:
    value = raw.get(key)
    if value is None:
        if default is None:
            raise _bad(key, "is missing from config.json")
        return default
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < float("inf"):
        raise _bad(key, f"must be a number above 0, not {value!r}")
    return float(value)


def _window_tokens(raw: dict[str, Any], family: str) -> int | None:
    if family == "mistral":
        # Transformers' own default; a config with full attention says null.
        return _whole(raw, "sliding_window", 4096) if raw.get("sliding_window", 4096) else None
    return _whole(raw, "sliding_window") if raw.get("use_sliding_window") else None


def _first_window_layer(raw: dict[str, Any], family: str) -> int:
    """Qwen slides the window in its upper layers only; Mistral in all."""
    if family not in ("qwen2", "qwen3"):
        return 0
    kinds = raw.get("layer_types")
    if kinds is None:
        return int(raw.get("max_window_layers", 28))
    first = kinds.index("sliding_attention") if "sliding_attention" in kinds else len(kinds)
    if any(kind != "sliding_attention" for kind in kinds[first:]):
        raise _bad("layer_types", "full layers above windowed ones are not served")
    return first


def _rope(raw: dict[str, Any]) -> RopeConfig:
    # Transformers 5 writes rope_parameters; older checkpoints have rope_theta and rope_scaling.
    scaling = raw.get("rope_parameters") or raw.get("rope_scaling") or {}
    if not isinstance(scaling, dict):
        raise _bad("rope_scaling", f"must be a JSON object, not {scaling!r}")
    theta = _number(scaling, "rope_theta", _number(raw, "rope_theta", 10000.0))
    kind = scaling.get("rope_type") or scaling.get("type") or "default"
    if kind == "default":
        return RopeConfig(theta)
    if kind == "linear":
        return RopeConfig(theta, kind, factor=_number(scaling, "factor"))
    if kind == "llama3":
        return RopeConfig(
            theta,
            kind,
            factor=_number(scaling, "factor"),
            low_freq_factor=_number(scaling, "low_freq_factor"),
            high_freq_factor=_number(scaling, "high_freq_factor"),
            original_context_tokens=_whole(scaling, "original_max_position_embeddings"),
        )
    raise _bad("rope_scaling", f"rope type {kind!r} is not served; known are default, linear, llama3")


def _bad(key: str, message: str) -> ServiceError:
    return ServiceError(Code.INVALID_ARGUMENT, Reason.INVALID_FIELD, f"{key}: {message}", field=key)
