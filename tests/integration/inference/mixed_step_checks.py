"""What a padded step with chunks is held to: the decoder's own logits, launch by launch."""

from collections.abc import Collection, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from services.inference.batch import Slice, make_batch
from tests.integration.inference.decode_step_checks import NAMES, ROUNDING, DecodeWorld, Run
from tests.integration.inference.paged_decoder import NUM_PAGES, PAGE_TOKENS

Chunk = tuple[int, int]
"""A stream of the world, and how many of its next tokens."""

DORA, EMBEDDINGS, LM_HEAD = (3 + NAMES.index(name) for name in ("dora", "dora_embeddings", "lm_head_alone"))
MIXES: dict[str, tuple[tuple[Chunk, ...], tuple[int, ...]]] = {
    "a_prompt_alone": (((0, 9),), ()),
    "chunks_go_on_and_one_wants_no_logits": (((0, 5), (2, 11), (3, 2), (DORA, 7)), (0, 2)),
    "beside_decodes": (((0, 1), (1, 6), (2, 1), (3, 1), (DORA, 1), (EMBEDDINGS, 5), (LM_HEAD, 1)), ()),
    "nobody_wants_logits": (((1, 2), (EMBEDDINGS, 3)), (1, EMBEDDINGS)),
    "base_rows_alone": (((0, 3), (1, 1)), ()),
}
"""Steps in an order that may be computed one after another: chunks, and streams that want no logits."""
MAX_MIX_TOKENS = 25

LARGE_MIX: tuple[Chunk, ...] = tuple((row, 5) for row in range(3 + len(NAMES)))
"""A chunk of every stream, after all of MIXES."""


def check_mix(world: DecodeWorld, run: Run, chunks: Sequence[Chunk], silent: Collection[int]) -> Tensor:
    """Computes `chunks` both ways; streams in `silent` want no logits. The logits of `run`."""
    parts = world.paged.slices([(world.streams[row], count) for row, count in chunks])
    slices = [
        replace(part, wants_logits=row not in silent) for part, (row, _) in zip(parts, chunks, strict=True)
    ]
    expected = world.paged.decoder.forward(make_batch(slices, PAGE_TOKENS, world.paged.device))
    _poison(world, slices)
    found = run(slices).clone()
    assert found.shape == (len(chunks) - len(silent), expected.shape[1])
    torch.testing.assert_close(found, expected, rtol=0, atol=ROUNDING)
    for row, count in chunks:
        world.streams[row].num_computed += count
    return found


def _poison(world: DecodeWorld, slices: Sequence[Slice]) -> None:
    """Takes back the keys and values that `slices` have written: whoever runs next must write them."""
    slabs = 2 * world.paged.config.num_layers
    rows = world.paged.pool_E.view(NUM_PAGES, slabs, PAGE_TOKENS, world.paged.config.kv_size)
    for part in slices:
        for position in range(part.start, part.start + len(part.token_ids)):
            rows[part.pages[position // PAGE_TOKENS], :, position % PAGE_TOKENS] = torch.nan
