"""The decoder on a real device: PEFT's logits, in mixed batches."""

import random
from pathlib import Path

import pytest
import torch

pytest.importorskip("peft")

from tests.integration.inference.architectures import ARCHITECTURES, VOCAB_SIZE, TinyModel
from tests.integration.inference.paged_decoder import PagedDecoder, Stream
from tests.integration.inference.peft_adapters import (
    VARIANTS,
    reference_logits,
    save_adapters,
    with_adapters,
)

CUDA = torch.device("cuda")


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda architecture: architecture.name)
def test_float32_logits_match_peft_in_mixed_batches(tmp_path: Path, architecture: TinyModel) -> None:
    peft_model = with_adapters(architecture.build(tmp_path / "model"))
    save_adapters(peft_model, tmp_path / "adapters")
    decoder = PagedDecoder(tmp_path / "model", CUDA)
    random_ids = random.Random(3)
    streams, expected = [Stream([random_ids.randrange(VOCAB_SIZE) for _ in range(40)])], []
    for index, name in enumerate(VARIANTS):
        decoder.load_adapter(tmp_path / "adapters" / name, index)
        streams.append(Stream([random_ids.randrange(VOCAB_SIZE) for _ in range(40)], index))
    for stream, name in zip(streams, (None, *VARIANTS), strict=True):
        expected.append(reference_logits(peft_model, name, stream.token_ids))
    for sizes in ([20 + index for index in range(len(streams))], *[[1] * len(streams)] * 6):
        starts = [stream.num_computed for stream in streams]
        found = decoder.step(list(zip(streams, sizes, strict=True)))
        for logits, want, start in zip(found, expected, starts, strict=True):
            torch.testing.assert_close(logits.cpu(), want[start : start + len(logits)], rtol=0, atol=1e-4)
