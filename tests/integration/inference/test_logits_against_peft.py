"""The decoder's logits against Transformers + PEFT, float32: every architecture, every LoRA variant.

All variants and base rows share each batch; prompts are prefilled in chunks beside decoding rows;
pages lie anywhere in a pool that held NaNs.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from peft import PeftModel

from tests.integration.inference.architectures import ARCHITECTURES, VOCAB_SIZE, TinyModel
from tests.integration.inference.paged_decoder import PagedDecoder, Stream
from tests.integration.inference.peft_adapters import (
    VARIANTS,
    reference_logits,
    save_adapters,
    with_adapters,
)

TOLERANCE = 1e-4
CPU = torch.device("cpu")
NUM_TOKENS = 44
ADAPTERS: tuple[str | None, ...] = (None, *VARIANTS, None)


@dataclass(frozen=True, slots=True)
class World:
    """One tiny model, its adapters on disk, and PEFT's answer for a sequence on each adapter."""

    model_dir: Path
    adapters_dir: Path
    token_ids: list[list[int]]
    expected: list[torch.Tensor]


@pytest.fixture(scope="module", params=ARCHITECTURES, ids=lambda model: model.name)
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    tiny: TinyModel = request.param
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    directory = tmp_path_factory.mktemp(tiny.name)
    peft_model = with_adapters(tiny.build(directory / "model"))
    save_adapters(peft_model, directory / "adapters")
    random_ids = random.Random(tiny.name)
    token_ids = [[random_ids.randrange(VOCAB_SIZE) for _ in range(NUM_TOKENS)] for _ in ADAPTERS]
    yield World(directory / "model", directory / "adapters", token_ids, _expected(peft_model, token_ids))
    torch.set_num_threads(threads)


def _expected(peft_model: PeftModel, token_ids: list[list[int]]) -> list[torch.Tensor]:
    return [reference_logits(peft_model, name, ids) for name, ids in zip(ADAPTERS, token_ids, strict=True)]


def _streams(world: World, decoder: PagedDecoder) -> list[Stream]:
    """One stream an entry of ADAPTERS, in an order that keeps streams of one adapter adjacent."""
    streams = []
    for name, ids in zip(ADAPTERS, world.token_ids, strict=True):
        if name is None:
            streams.append(Stream(ids))
            continue
        adapter_index = list(VARIANTS).index(name)
        decoder.load_adapter(world.adapters_dir / name, adapter_index)
        streams.append(Stream(ids, adapter_index))
    return streams


def test_adapters_move_the_reference_far_more_than_the_tolerance(world: World) -> None:
    for name, ids, logits in zip(ADAPTERS, world.token_ids, world.expected, strict=True):
        base = PagedDecoder(world.model_dir, CPU).step([(Stream(ids), NUM_TOKENS)])[0]
        difference = (base - logits).abs().max().item()
        assert difference <= TOLERANCE if name is None else difference > 100 * TOLERANCE, name


def test_mixed_batches_with_chunked_prefill_and_decode_match(world: World) -> None:
    decoder = PagedDecoder(world.model_dir, CPU)
    streams = _streams(world, decoder)
    sizes = random.Random(7)
    while any(stream.num_computed < NUM_TOKENS for stream in streams):
        chunks, wanted = [], []
        for stream, logits in zip(streams, world.expected, strict=True):
            left = NUM_TOKENS - stream.num_computed
            num_tokens = min(left, sizes.choice([0, 1, 1, 1, 2, 5, 9, 17]))
            if num_tokens:
                chunks.append((stream, num_tokens))
                wanted.append(logits[stream.num_computed : stream.num_computed + num_tokens])
        if chunks:
            for (stream, _), found, expected in zip(chunks, decoder.step(chunks), wanted, strict=True):
                torch.testing.assert_close(
                    found, expected, rtol=0, atol=TOLERANCE, msg=lambda text, s=stream: f"{s}: {text}"
                )


def test_every_row_decoding_matches(world: World) -> None:
    decoder = PagedDecoder(world.model_dir, CPU)
    streams = _streams(world, decoder)
    decoder.step([(stream, 7 + 3 * index) for index, stream in enumerate(streams[: len(streams) - 2])])
    decoder.step([(stream, 30) for stream in streams[len(streams) - 2 :]])
    for _ in range(5):
        starts = [stream.num_computed for stream in streams]
        for found, expected, start in zip(
            decoder.step([(stream, 1) for stream in streams]), world.expected, starts, strict=True
        ):
            torch.testing.assert_close(found[0], expected[start], rtol=0, atol=TOLERANCE)
