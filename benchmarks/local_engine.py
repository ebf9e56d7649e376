"""The real engine in this process, driven step by step and timed; adapters come from local directories.

For machines that have a GPU but no store, and for tests. Must not know what is measured.
"""

import hashlib
import os
import queue
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from services.common.errors import ServiceError
from services.inference.adapters.adapter_weights import CONFIG_FILE, WEIGHTS_FILE
from services.inference.adapters.io import Completion
from services.inference.engine import Engine, Launched, Runner
from services.inference.engine_parts import SWITCH_INTERVAL_S, LoadWeights, build_engine
from services.inference.messages import (
    AdapterInfo,
    Failed,
    Finished,
    LoadAdapter,
    Reply,
    ResidencyState,
    Submit,
    TokenLogprobs,
    Tokens,
    UnloadAdapter,
)
from services.inference.model.weights import load_weights
from services.inference.request import (
    AdapterFile,
    AdapterKey,
    Request,
    ResolvedAdapter,
    SamplingParams,
    adapter_key,
)
from services.inference.runner import ModelRunner
from services.inference.sampler_row import SampledToken
from services.inference.scheduler import Chunk
from services.inference.sequence import Sequence as EngineSequence
from services.inference.settings import Settings

NEWS_TIMEOUT_S = 120.0

Prompt = tuple[ResolvedAdapter | None, Sequence[int]]


class LocalReader:
    """Reads a version's files from the directory that is its name."""

    def read(self, version_name: str, file: AdapterFile, to: Path, cancelled: Callable[[], bool]) -> None:
        """Links `file` to `to`, or copies it where a link cannot be made."""
        source = Path(version_name) / file.path
        try:
            os.link(source, to)
        except OSError:
            shutil.copy(source, to)

    def close(self) -> None:
        """Nothing runs."""


def resolved(directory: Path) -> ResolvedAdapter:
    """The adapter in `directory` as the store would resolve it."""
    contents = [(name, (directory / name).read_bytes()) for name in (CONFIG_FILE, WEIGHTS_FILE)]
    files = [AdapterFile(name, len(data), hashlib.sha256(data).hexdigest()) for name, data in contents]
    return resolved_files(directory, files)


def resolved_files(directory: Path, files: Sequence[AdapterFile]) -> ResolvedAdapter:
    """The same when sizes and digests are known."""
    return ResolvedAdapter(AdapterKey(adapter_key(files)), str(directory), 0, tuple(files))


@dataclass(slots=True)
class Stream:
    """One request and what came of it so far; times are time.perf_counter() seconds."""

    request_id: str
    submitted_s: float
    token_ids: list[int] = field(default_factory=list)
    logprobs: list[TokenLogprobs] = field(default_factory=list)
    first_token_s: float | None = None
    is_finished: bool = False

    @property
    def ttft_s(self) -> float:
        """From submission to the first token."""
        assert self.first_token_s is not None, f"{self.request_id} has no token yet"
        return self.first_token_s - self.submitted_s


@dataclass(frozen=True, slots=True)
class Step:
    """What passed from one delivery of tokens to the next.

    `runner_s` of it was in the runner: the launch of the next step, and the wait for the tokens of this one.
    """

    start_s: float
    end_s: float
    runner_s: float
    num_tokens: int

    @property
    def wall_s(self) -> float:
        """How long that was."""
        return self.end_s - self.start_s


class TimedRunner:
    """Another runner, and the time spent in its launches and in waiting for their tokens."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self.busy_s = 0.0

    @property
    def overlaps(self) -> bool:
        """As the other runner does."""
        return self._runner.overlaps

    def launch(self, chunks: Sequence[Chunk]) -> "TimedLaunched":
        """As the other runner does."""
        with self.timed():
            return TimedLaunched(self, self._runner.launch(chunks))

    @contextmanager
    def timed(self) -> Iterator[None]:
        """Counts what goes on within."""
        start_s = time.perf_counter()
        try:
            yield
        finally:
            self.busy_s += time.perf_counter() - start_s


@dataclass(frozen=True, slots=True)
class TimedLaunched:
    """Another runner's step; `runner` counts the wait for it."""

    runner: TimedRunner
    launched: Launched

    def tokens(self) -> list[tuple[EngineSequence, SampledToken]]:
        """As the other."""
        with self.runner.timed():
            return self.launched.tokens()


class LocalEngine:
    """An engine that runs while it is called. Raises the ServiceError of any request that fails."""

    def __init__(self, engine: Engine, inbox: "queue.SimpleQueue[Completion]", runner: TimedRunner) -> None:
        self.engine = engine
        self._inbox = inbox
        self._runner = runner
        self._streams: dict[str, Stream] = {}
        self._replies: dict[int, Any] = {}
        self._num_calls = 0
        self._busy = True
        # None while nothing goes on: then a step begins when it is called.
        self._last_end_s: float | None = None

    def submit(self, prompt: Prompt, sampling: SamplingParams, eos_token_ids: tuple[int, ...] = ()) -> Stream:
        """Queues one request; it runs in the steps that follow."""
        self._num_calls += 1
        stream = Stream(f"r{self._num_calls}", time.perf_counter())
        adapter, token_ids = prompt
        request = Request(
            stream.request_id,
            tuple(token_ids),
            adapter,
            sampling,
            time.monotonic(),
            eos_token_ids=eos_token_ids,
        )
        self._streams[stream.request_id] = stream
        self.engine.handle(Submit(request))
        self._busy = True
        return stream

    def step(self) -> Step:
        """Runs the engine once; if it has nothing to do, waits for adapter I/O first."""
        self._take(block=not self._busy)
        runner_s, start_s = self._runner.busy_s, self._last_end_s or time.perf_counter()
        events, self._busy = self.engine.step()
        end_s, num_tokens = time.perf_counter(), 0
        for event in events:
            match event:
                case Tokens(request_id, token_ids, logprobs):
                    stream = self._streams[request_id]
                    stream.first_token_s = stream.first_token_s or end_s
                    stream.token_ids += token_ids
                    stream.logprobs += logprobs
                    num_tokens += len(token_ids)
                case Finished(request_id):
                    self._streams.pop(request_id).is_finished = True
                case Failed(_, error):
                    raise error
                case Reply(call_id, value):
                    self._replies[call_id] = value
        self._last_end_s = end_s if self._busy and self._streams else None
        return Step(start_s, end_s, self._runner.busy_s - runner_s, num_tokens)

    @property
    def num_live(self) -> int:
        """Requests that have not ended."""
        return len(self._streams)

    def finish(self, streams: Iterable[Stream]) -> list[Step]:
        """Steps until all of `streams` have ended."""
        steps, streams = [], list(streams)
        while not all(stream.is_finished for stream in streams):
            steps.append(self.step())
        return steps

    def generate(
        self, prompts: Iterable[Prompt], sampling: SamplingParams, eos_token_ids: tuple[int, ...] = ()
    ) -> list[Stream]:
        """All `prompts` at once, to their end; nothing may be left over then."""
        streams = [self.submit(prompt, sampling, eos_token_ids) for prompt in prompts]
        self.finish(streams)
        self.engine.check_idle()
        return streams

    def load(self, adapters: Sequence[ResolvedAdapter], tier: ResidencyState) -> list[AdapterInfo]:
        """Brings all of `adapters` to `tier` (HOST or DEVICE)."""
        return self._call(
            len(adapters), lambda call_id, i: LoadAdapter(call_id, adapters[i], tier, pin=False)
        )

    def unload(self, adapters: Sequence[ResolvedAdapter], tier: ResidencyState) -> None:
        """Frees `adapters`' pages, and their host copies too if `tier` is HOST; they must be known here."""
        self._call(
            len(adapters),
            lambda call_id, i: UnloadAdapter(call_id, adapters[i].key, adapters[i].tenant, tier),
        )

    def _call(self, count: int, make: Callable[[int, int], LoadAdapter | UnloadAdapter]) -> list[Any]:
        call_ids = range(self._num_calls + 1, self._num_calls + 1 + count)
        self._num_calls += count
        for index, call_id in enumerate(call_ids):
            self.engine.handle(make(call_id, index))
        self._busy = True
        while not all(call_id in self._replies for call_id in call_ids):
            self.step()
        values = [self._replies.pop(call_id) for call_id in call_ids]
        for value in values:
            if isinstance(value, ServiceError):
                raise value
        return values

    def _take(self, *, block: bool) -> None:
        if block:
            try:
                self.engine.complete(self._inbox.get(timeout=NEWS_TIMEOUT_S))
            except queue.Empty:
                raise TimeoutError(f"the engine waits, and nothing came: {self.engine!r}") from None
        while True:
            try:
                self.engine.complete(self._inbox.get_nowait())
            except queue.Empty:
                return


@contextmanager
def local_engine(
    settings: Settings, load: LoadWeights = load_weights, overlaps: bool | None = None
) -> Iterator[LocalEngine]:
    """A warm engine; fails at the end if anything is left over. `overlaps` is as ModelRunner's."""
    inbox: queue.SimpleQueue[Completion] = queue.SimpleQueue()
    runners: list[TimedRunner] = []

    def make_runner(*parts: Any) -> Runner:
        runners.append(TimedRunner(ModelRunner(*parts, overlaps=overlaps)))
        return runners[0]

    before_s = sys.getswitchinterval()
    # As the engine's own process has it.
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    engine, _, close = build_engine(settings, inbox.put, LocalReader(), load=load, make_runner=make_runner)
    try:
        yield LocalEngine(engine, inbox, runners[0])
        engine.check_idle()
    finally:
        sys.setswitchinterval(before_s)
        close()
