"""What is measured: a model's shape and the sizes of every table.

Must not know how anything is measured.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MIXED = "mixed"


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSizes:
    """Cells of the engine table, the most wanted first; `distinct` beside none, one and batch-many.

    Cells of more than `most_adapters` are left out: each adapter takes time to make and to load.
    """

    batches: tuple[int, ...]
    distinct: tuple[int, ...]
    most_adapters: int
    num_prompt_tokens: int
    num_output_tokens: int
    passes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChurnSizes:
    """`num_running` streams on `num_resident` adapters; a newcomer every `steps_apart` steps."""

    num_running: int
    num_resident: int
    num_newcomers: int
    steps_apart: int
    newcomer_tokens: int
    num_idle_repeats: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ThousandsSizes:
    """S-LoRA's trace over `few` and over `many` adapters, whose ranks take turns in `ranks`.

    `files` is how many different weights there are on disk: adapters beyond that share them, but no
    residency. Lengths are drawn from [low, high).
    """

    few: int
    many: int
    files: int
    ranks: tuple[int, ...]
    seconds: float
    requests_per_s: float
    skew: float
    cv: float
    lengths: tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelSizes:
    """Cells of the kernel table; `num_layers` sets of weights take turns, so that no cache holds them."""

    batches: tuple[int, ...]
    ranks: tuple[int, ...]
    num_layers: int
    replays: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchShape:
    """A model, its adapters' rank and what is measured of both. `threads` as in Settings: 0 is one a core."""

    name: str
    config: Mapping[str, Any]
    rank: int
    pool_bytes: int
    host_cache_bytes: int
    max_batch_tokens: int
    copy_bytes: int
    threads: int
    engine: EngineSizes
    churn: ChurnSizes
    thousands: ThousandsSizes
    kernel: KernelSizes


LLAMA_8B = BenchShape(
    name="llama-8b",
    config={
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128256,
        "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-5,
        "rope_theta": 500000.0,
        "rope_scaling": {
            "rope_type": "llama3",
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 8192,
        },
        "tie_word_embeddings": False,
    },
    rank=16,
    pool_bytes=48 << 30,
    host_cache_bytes=4 << 30,
    max_batch_tokens=4096,
    copy_bytes=4 << 30,
    threads=0,
    engine=EngineSizes(
        batches=(32, 1, 256, 128, 64),
        distinct=(32, 64),
        most_adapters=1024,
        num_prompt_tokens=128,
        num_output_tokens=129,
        passes=3,
    ),
    churn=ChurnSizes(
        num_running=16,
        num_resident=4,
        num_newcomers=16,
        steps_apart=20,
        newcomer_tokens=8,
        num_idle_repeats=5,
    ),
    thousands=ThousandsSizes(
        few=5,
        many=2000,
        files=96,
        ranks=(8, 16, 32, 64),
        seconds=30.0,
        requests_per_s=40.0,
        skew=1.0,
        cv=1.0,
        lengths=(8, 512),
    ),
    kernel=KernelSizes(
        batches=(1, 2, 4, 8, 16, 32, 64, 128, 256), ranks=(8, 16, 32, 64), num_layers=8, replays=15
    ),
)

TINY = BenchShape(
    name="tiny",
    config={
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 258,
        "max_position_embeddings": 512,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
    },
    rank=4,
    pool_bytes=8 << 20,
    host_cache_bytes=8 << 20,
    max_batch_tokens=64,
    copy_bytes=1 << 20,
    threads=1,
    engine=EngineSizes(
        batches=(4, 1), distinct=(2,), most_adapters=1024, num_prompt_tokens=8, num_output_tokens=9, passes=2
    ),
    churn=ChurnSizes(
        num_running=3, num_resident=2, num_newcomers=2, steps_apart=4, newcomer_tokens=2, num_idle_repeats=2
    ),
    thousands=ThousandsSizes(
        few=2,
        many=12,
        files=8,
        ranks=(2, 4),
        seconds=0.2,
        requests_per_s=100.0,
        skew=1.0,
        cv=1.0,
        lengths=(2, 10),
    ),
    kernel=KernelSizes(batches=(1, 4), ranks=(4, 8), num_layers=2, replays=3),
)

SHAPES = {shape.name: shape for shape in (LLAMA_8B, TINY)}
