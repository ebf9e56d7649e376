"""Whether the engine that is being timed computes the right thing.

Log-probabilities of a mixed batch, prefill and decode, against the same model in plain
torch one precision up; the yardstick is the error of plain torch in the engine's own precision.
Must not know tables.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.local_engine import Prompt, Stream
from benchmarks.plain_decoder import PlainStream, plain_logits, read_plain_adapter
from benchmarks.workbench import Workbench
from services.inference.request import SamplingParams

NUM_LOGPROBS = 20
# Rounding differs by the order of sums alone; a wrong or a missing delta is an error of several yardsticks.
MAX_OVER_PLAIN = 1.5
NUM_CHECKED = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class LogitCheck:
    """Root mean square and maximum of |log-probability - reference|, the engine's and plain torch's."""

    engine_rms: float
    engine_max: float
    plain_rms: float
    plain_max: float
    num_values: int
    num_streams: int
    num_positions: int

    @property
    def passed(self) -> bool:
        """Whether the engine errs no more than plain torch does; NaN never passes."""
        return self.engine_rms <= MAX_OVER_PLAIN * self.plain_rms


def check_logits(bench: Workbench, num_adapters: int) -> LogitCheck:
    """A batch of requests on `num_adapters` adapters and the base; a few of its streams are compared."""
    num_tokens = bench.shape.engine.num_prompt_tokens // 8 + 1
    sampling = SamplingParams(
        max_tokens=num_tokens, temperature=0.0, ignore_eos=True, logprobs=NUM_LOGPROBS
    )  # fmt: skip
    prompts = [(None, bench.prompt(0)), *bench.prompts(num_adapters, num_adapters)]
    streams = bench.engine.generate(prompts, sampling)
    spread = range(0, len(prompts), max(1, len(prompts) // NUM_CHECKED))
    prompts, streams = [prompts[i] for i in spread], [streams[i] for i in spread]
    plain_streams = [_plain(bench, prompt, stream) for prompt, stream in zip(prompts, streams, strict=True)]
    wide = torch.float64 if bench.dtype == torch.float32 else torch.float32
    exact = plain_logits(bench.config, bench.weights, plain_streams, wide)
    coarse = plain_logits(bench.config, bench.weights, plain_streams, bench.dtype)
    triples = [_triple(*each) for each in zip(streams, exact, coarse, strict=True)]
    found, true, plain = (torch.cat(parts) for parts in zip(*triples, strict=True))
    engine_error, plain_error = (found - true).abs(), (plain - true).abs()
    return LogitCheck(
        engine_rms=float(engine_error.square().mean().sqrt()),
        engine_max=float(engine_error.max()),
        plain_rms=float(plain_error.square().mean().sqrt()),
        plain_max=float(plain_error.max()),
        num_values=found.numel(),
        num_streams=len(streams),
        num_positions=num_tokens,
    )


def _plain(bench: Workbench, prompt: Prompt, stream: Stream) -> PlainStream:
    adapter, token_ids = prompt
    plain = None if adapter is None else read_plain_adapter(Path(adapter.version_name), bench.device)
    return PlainStream([*token_ids, *stream.token_ids[:-1]], len(token_ids) - 1, plain)


def _triple(stream: Stream, exact: Tensor, coarse: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probabilities of the tokens that the engine named: its own, the reference's, plain torch's."""
    ids = torch.tensor([[i for i, _ in position.top] for position in stream.logprobs], device=exact.device)
    found = torch.tensor([[p for _, p in position.top] for position in stream.logprobs], dtype=torch.float64)
    true = exact.double().log_softmax(-1).gather(1, ids).cpu()
    # In float32, as the sampler takes them.
    plain = coarse.float().log_softmax(-1).gather(1, ids).cpu().double()
    return found.flatten(), true.flatten(), plain.flatten()
