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
    architecture = (raw.get("architectures") or [""])[0]
    if architecture not in ARCHITECTURES:
        known = ", ".join(sorted(ARCHITECTURES))
        raise _bad("architectures", f"{architecture!r} is not served; known are {known}")
    family = ARCHITECTURES[architecture]
    if raw.get("hidden_act", "silu") != "silu":
        raise _bad("hidden_act", f"{raw['hidden_act']!r} is not served; only silu is")
    if family == "llama" and (raw.get("attention_bias") or raw.get("mlp_bias")):
        raise _bad("attention_bias", "Llama with biases is not served")
    if raw.get("quantization_config"):
        raise _bad("quantization_config", "quantized checkpoints are not served; give the original weights")
    return _from_raw(raw, architecture, family)


def _from_raw(raw: dict[str, Any], architecture: str, family: str) -> ModelConfig:
    try:
        num_heads = int(raw["num_attention_heads"])
        window = raw.get("sliding_window") if family == "mistral" or raw.get("use_sliding_window") else None
        return ModelConfig(
            architecture=architecture,
            hidden_size=int(raw["hidden_size"]),
            intermediate_size=int(raw["intermediate_size"]),
            num_layers=int(raw["num_hidden_layers"]),
            num_heads=num_heads,
            num_kv_heads=int(raw.get("num_key_value_heads") or num_heads),
            head_dim=int(raw.get("head_dim") or raw["hidden_size"] // num_heads),
            vocab_size=int(raw["vocab_size"]),
            max_context_tokens=int(raw["max_position_embeddings"]),
            norm_eps=float(raw["rms_norm_eps"]),
            rope=_rope(raw),
            tie_word_embeddings=bool(raw.get("tie_word_embeddings", False)),
            qkv_bias=family == "qwen2",
            qk_norm=family == "qwen3",
            sliding_window_tokens=int(window) if window else None,
            first_window_layer=_first_window_layer(raw, family) if window else 0,
        )
    except KeyError as error:
        raise _bad(str(error.args[0]), "is missing from config.json") from error


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
    theta = float(scaling.get("rope_theta") or raw.get("rope_theta") or 10000.0)
    kind = scaling.get("rope_type") or scaling.get("type") or "default"
    if kind == "default":
        return RopeConfig(theta)
    if kind == "linear":
        return RopeConfig(theta, kind, factor=float(scaling["factor"]))
    if kind == "llama3":
        return RopeConfig(
            theta,
            kind,
            factor=float(scaling["factor"]),
            low_freq_factor=float(scaling["low_freq_factor"]),
            high_freq_factor=float(scaling["high_freq_factor"]),
            original_context_tokens=int(scaling["original_max_position_embeddings"]),
        )
    raise _bad("rope_scaling", f"rope type {kind!r} is not served; known are default, linear, llama3")


def _bad(key: str, message: str) -> ServiceError:
    return ServiceError(Code.INVALID_ARGUMENT, Reason.INVALID_FIELD, f"{key}: {message}", field=key)
