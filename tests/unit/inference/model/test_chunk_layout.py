import random

import pytest

pytest.importorskip("triton")

from kernels.prefill_attention import query_tiles
from kernels.row_tiles import make_row_tiles
from kernels.segments import BASE
from services.inference.batch import Slice, make_batch
from services.inference.model.chunk_layout import TileRows, lay_out
from tests.unit.inference.model.tiny_checkpoint import CPU

PAGE_TOKENS = 4
TILES = TileRows(query=5, lora=3, wanted=2)


def _slices(seed: int) -> list[Slice]:
    draw = random.Random(seed)
    slices = []
    for adapter in (BASE, BASE, 0, 2, 2, 2, 2, 3):
        start, count = draw.randrange(20), draw.choice([1, 1, 2, 5, 11])
        pages = [draw.randrange(100) for _ in range(-(-(start + count) // PAGE_TOKENS) + draw.randrange(2))]
        tokens = [draw.randrange(50) for _ in range(count)]
        slices.append(Slice(tokens, start, pages, adapter, wants_logits=draw.random() < 0.7))
    return slices


@pytest.mark.parametrize("seed", range(4))
def test_it_is_what_an_eager_step_reads(seed: int) -> None:
    slices = _slices(seed)
    layout, batch = lay_out(slices, PAGE_TOKENS, TILES), make_batch(slices, PAGE_TOKENS, CPU)
    assert layout.token_ids_T.tolist() == batch.token_ids_T.tolist()
    assert layout.positions_T.tolist() == batch.positions_T.tolist()
    assert layout.slots_T.tolist() == batch.kv_slots_T.tolist()
    assert layout.wanted_rows_M.tolist() == batch.sample_rows_M.tolist()
    first_pages = [0]
    for length in batch.context_lens:
        first_pages.append(first_pages[-1] + -(-length // PAGE_TOKENS))
    tiles = query_tiles(batch.query_starts, batch.context_lens, first_pages, TILES.query)
    assert [tuple(tile) for tile in layout.query_tiles_W4.tolist()] == tiles
    used = [-(-length // PAGE_TOKENS) for length in batch.context_lens]
    pages = [page for part, count in zip(slices, used, strict=True) for page in part.pages[:count]]
    assert layout.pages_X.tolist() == pages


@pytest.mark.parametrize("seed", range(4))
def test_row_tiles_are_those_of_the_segments(seed: int) -> None:
    slices = _slices(seed)
    layout, batch = lay_out(slices, PAGE_TOKENS, TILES), make_batch(slices, PAGE_TOKENS, CPU)
    of_all = make_row_tiles(batch.token_segments, TILES.lora, CPU)
    of_wanted = make_row_tiles(batch.sample_segments, TILES.wanted, CPU)
    for tiles, found_W3 in ((of_all, layout.row_tiles_W3), (of_wanted, layout.wanted_tiles_W3)):
        assert found_W3.tolist() == tiles.tiles_W3[: int(tiles.num_tiles_1)].tolist()
    assert layout.adapters_T.tolist() == of_all.row_adapters_T.tolist()
    assert layout.wanted_adapters_M.tolist() == of_wanted.row_adapters_T.tolist()


def test_a_step_of_nobody_has_no_rows_and_no_tiles() -> None:
    layout = lay_out([], PAGE_TOKENS, TILES)
    assert len(layout.token_ids_T) == len(layout.pages_X) == 0
    assert layout.query_tiles_W4.shape == (0, 4)
    assert layout.row_tiles_W3.shape == layout.wanted_tiles_W3.shape == (0, 3)


def test_a_chunk_that_wants_no_logits_has_no_wanted_tile() -> None:
    layout = lay_out([Slice([1], 0, [7], 3, wants_logits=False)], PAGE_TOKENS, TILES)
    assert layout.row_tiles_W3.tolist() == [[3, 0, 1]]
    assert layout.wanted_tiles_W3.shape == (0, 3)
