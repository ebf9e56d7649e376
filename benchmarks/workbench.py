"""An engine with a random model and random adapters, ready to be measured. Must not know how."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.local_engine import LocalEngine, Prompt, local_engine
from benchmarks.random_adapters import num_adapter_bytes, write_random_adapters
from benchmarks.random_model import RandomModel, num_weight_bytes, write_config
from benchmarks.shape import BenchShape
from services.inference.model.config import ModelConfig, read_config
from services.inference.model.weights import Weights
from services.inference.request import ResolvedAdapter
from services.inference.settings import Settings

DISK_CACHE_BYTES = 1 << 40
# A trace is not refused where the engine is slower than it.
MAX_QUEUE = 1 << 20


@dataclass(frozen=True, slots=True)
class Workbench:
    """Everything a table or a check needs. Nothing of `adapters` is loaded yet."""

    shape: BenchShape
    engine: LocalEngine
    config: ModelConfig
    weights: Weights
    adapters: tuple[ResolvedAdapter, ...]
    settings: Settings

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.weights.embed_VH.device

    @property
    def dtype(self) -> torch.dtype:
        """What the model computes in."""
        return self.weights.embed_VH.dtype

    @property
    def weight_bytes(self) -> int:
        """The whole model's."""
        return num_weight_bytes(self.weights)

    @property
    def adapter_bytes(self) -> int:
        """One adapter's, as it lies in the pool."""
        stored = num_adapter_bytes(self.config, self.shape.rank)
        return stored * self.dtype.itemsize // torch.bfloat16.itemsize

    def prompt(self, index: int, num_tokens: int = 0) -> list[int]:
        """Random token ids, the same for the same `index`; as many as the engine table's, if not told."""
        generator = torch.Generator().manual_seed(index)
        size = (num_tokens or self.shape.engine.num_prompt_tokens,)
        return torch.randint(0, self.config.vocab_size, size, generator=generator).tolist()

    def prompts(self, batch: int, num_adapters: int) -> list[Prompt]:
        """`batch` prompts that take turns in the first `num_adapters` adapters; 0 is the base model."""
        return [
            (self.adapters[index % num_adapters] if num_adapters else None, self.prompt(index))
            for index in range(batch)
        ]


@contextmanager
def workbench(shape: BenchShape, device: str, ranks: Sequence[int], directory: Path) -> Iterator[Workbench]:
    """Writes adapters of `ranks` and a config below `directory`; makes the model; starts the engine."""
    model_dir = directory / shape.name
    write_config(model_dir, shape.config)
    config = read_config(model_dir)
    adapters = write_random_adapters(directory / "adapters", config, ranks)
    settings = Settings(
        model=model_dir,
        device=device,
        pool_bytes=shape.pool_bytes,
        host_cache_bytes=shape.host_cache_bytes,
        disk_cache_bytes=DISK_CACHE_BYTES,
        cache_dir=directory / "cache",
        max_batch_tokens=shape.max_batch_tokens,
        max_queue=MAX_QUEUE,
        threads=shape.threads,
    )
    model = RandomModel()
    with local_engine(settings, model.load) as engine:
        assert model.weights is not None, "the engine loaded its model"
        yield Workbench(shape, engine, config, model.weights, tuple(adapters), settings)
