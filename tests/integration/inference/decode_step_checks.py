"""What a decode step over a buffer is held to: the decoder's own logits, launch by launch."""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from kernels.segments import BASE
from services.inference.batch import Slice, make_batch
from services.inference.model.last_tokens import LastTokens, row_of_last
from tests.integration.inference.architectures import VOCAB_SIZE, TinyModel
from tests.integration.inference.paged_decoder import PAGE_TOKENS, PagedDecoder, Stream
from tests.integration.inference.peft_adapters import VARIANTS, save_adapters, with_adapters

MAX_ROWS = 16
MAX_CONTEXT_TOKENS = 64
ROUNDING = 1e-4
"""Float32 sums in another order, as in the comparison with PEFT."""

Run = Callable[[Sequence[Slice]], Tensor]
NAMES = list(VARIANTS)


def from_last(run: Run, last_tokens: LastTokens) -> Run:
    """`run`, where every other row's token is one that the step before sampled."""

    def run_from_last(slices: Sequence[Slice]) -> Tensor:
        ids = [part.token_ids[0] for part in reversed(slices)]
        last_tokens.write_(torch.tensor(ids, device=last_tokens.device))
        known = len(slices) - 1
        return run(
            [
                replace(part, token_ids=[row_of_last(known - row)]) if row % 2 == 0 else part
                for row, part in enumerate(slices)
            ]
        )

    return run_from_last


class DecodeWorld:
    """A tiny model with every variant of adapter, and streams that decode on the base and on each."""

    def __init__(self, architecture: TinyModel, directory: Path, device: torch.device) -> None:
        self._adapters = directory / "adapters"
        save_adapters(with_adapters(architecture.build(directory / "model")), self._adapters)
        self.paged = PagedDecoder(directory / "model", device)
        for index, name in enumerate(NAMES):
            self.paged.load_adapter(self._adapters / name, index)
        draw = random.Random(5)
        self.streams = [
            Stream([draw.randrange(VOCAB_SIZE) for _ in range(40)], index)
            for index in (BASE, BASE, 0, 0, *range(1, len(NAMES)))
        ]
        self.paged.step([(stream, 3 + 2 * index) for index, stream in enumerate(self.streams)])

    def check_step(
        self, run: Run, streams: Sequence[Stream], num_tokens: Sequence[int] | None = None
    ) -> Tensor:
        """One token of each, or `num_tokens`; the logits of the last."""
        counts = num_tokens or [1] * len(streams)
        slices = self.paged.slices(list(zip(streams, counts, strict=True)))
        expected = self.paged.decoder.forward(make_batch(slices, PAGE_TOKENS, self.paged.device))
        found = run(slices).clone()
        torch.testing.assert_close(found, expected, rtol=0, atol=ROUNDING)
        for stream, count in zip(streams, counts, strict=True):
            stream.num_computed += count
        return found

    def check_reload(self, run: Run) -> None:
        """Another adapter's weights under most indices: what a step read before must not show."""
        before = self.check_step(run, self.streams)
        for stream in self.streams:
            stream.num_computed -= 1
        for index in range(1, len(NAMES)):
            self.paged.table.clear(index)
            self.paged.load_adapter(self._adapters / NAMES[index - 1], index)
        after = self.check_step(run, self.streams)
        changed = (before - after).abs().amax(dim=1) > 100 * ROUNDING
        assert changed.tolist() == [stream.adapter_index > 0 for stream in self.streams]
