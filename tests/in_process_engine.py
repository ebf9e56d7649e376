"""The real engine in the test's own process, by adapter directory.

For what needs the engine alone: its speed, and machines that have a GPU but no store.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.local_engine import LocalEngine, local_engine, resolved
from services.inference.engine import Engine
from services.inference.request import SamplingParams
from services.inference.settings import Settings


class InProcessEngine:
    """An engine that runs while `generate` is called."""

    def __init__(self, local: LocalEngine) -> None:
        self._local = local

    @property
    def engine(self) -> Engine:
        return self._local.engine

    def generate(
        self,
        prompts: Iterable[tuple[Path | None, list[int]]],
        sampling: SamplingParams,
        eos_token_ids: tuple[int, ...] = (),
    ) -> list[list[int]]:
        """All `prompts`, each with its adapter directory, at once: the tokens of each."""
        asked = [(None if path is None else resolved(path), ids) for path, ids in prompts]
        return [stream.token_ids for stream in self._local.generate(asked, sampling, eos_token_ids)]


@contextmanager
def in_process_engine(settings: Settings) -> Iterator[InProcessEngine]:
    """A warm engine; fails at the end if anything is left over."""
    with local_engine(settings) as local:
        yield InProcessEngine(local)
