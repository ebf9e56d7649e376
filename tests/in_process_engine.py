"""The real engine in the test's own process, with adapters read from local directories.

For what needs the engine alone: its speed, and machines that have a GPU but no store.
"""

import hashlib
import queue
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from services.inference.adapters.io import Completion
from services.inference.engine import Engine
from services.inference.engine_parts import build_engine
from services.inference.messages import Failed, Finished, Submit, Tokens
from services.inference.request import AdapterFile, AdapterKey, Request, ResolvedAdapter, SamplingParams
from services.inference.settings import Settings

FILES = ("adapter_config.json", "adapter_model.safetensors")


class LocalReader:
    """Reads a version's files from the directory that is its name."""

    def read(self, version_name: str, file: AdapterFile, to: Path, cancelled: Callable[[], bool]) -> None:
        shutil.copy(Path(version_name) / file.path, to)

    def close(self) -> None:
        pass


def resolved(directory: Path) -> ResolvedAdapter:
    """The adapter in `directory` as the store would resolve it."""
    contents = [(name, (directory / name).read_bytes()) for name in FILES]
    files = tuple(AdapterFile(name, len(data), hashlib.sha256(data).hexdigest()) for name, data in contents)
    key = hashlib.sha256("".join(file.sha256 for file in files).encode()).hexdigest()
    return ResolvedAdapter(AdapterKey(key), str(directory), 0, files)


class InProcessEngine:
    """An engine that runs while `generate` is called."""

    def __init__(self, engine: Engine, inbox: "queue.SimpleQueue[Completion]") -> None:
        self.engine = engine
        self._inbox = inbox
        self._num_requests = 0

    def generate(
        self,
        prompts: Iterable[tuple[Path | None, list[int]]],
        sampling: SamplingParams,
        eos_token_ids: tuple[int, ...] = (),
    ) -> list[list[int]]:
        """All `prompts`, each with its adapter directory, at once: the tokens of each."""
        ids = []
        for directory, prompt in prompts:
            self._num_requests += 1
            ids.append(f"r{self._num_requests}")
            adapter = resolved(directory) if directory is not None else None
            self.engine.handle(
                Submit(
                    Request(
                        ids[-1], tuple(prompt), adapter, sampling, time.monotonic(),
                        eos_token_ids=eos_token_ids,
                    )
                )
            )  # fmt: skip
        tokens: dict[str, list[int]] = {request_id: [] for request_id in ids}
        waiting = set(ids)
        busy = True
        while waiting:
            busy = self._take(block=not busy) or busy
            events, busy = self.engine.step()
            for event in events:
                if isinstance(event, Tokens):
                    tokens[event.request_id] += event.token_ids
                elif isinstance(event, Failed):
                    raise event.error
                elif isinstance(event, Finished):
                    waiting.remove(event.request_id)
        self.engine.check_idle()
        return [tokens[request_id] for request_id in ids]

    def _take(self, *, block: bool) -> bool:
        try:
            self.engine.complete(self._inbox.get(block=block, timeout=60))
            while True:
                self.engine.complete(self._inbox.get_nowait())
        except queue.Empty:
            return False


@contextmanager
def in_process_engine(settings: Settings) -> Iterator[InProcessEngine]:
    """A warm engine; fails at the end if anything is left over."""
    inbox: queue.SimpleQueue[Completion] = queue.SimpleQueue()
    engine, _, close = build_engine(settings, inbox.put, LocalReader())
    try:
        yield InProcessEngine(engine, inbox)
        engine.check_idle()
    finally:
        close()
