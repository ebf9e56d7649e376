from itertools import pairwise

import pytest

pytest.importorskip("triton")

from kernels.row_tiles import NO_WORK
from kernels.segments import BASE
from services.inference.batch import Slice
from services.inference.model.mixed_buffer import MixedBuffer
from services.inference.model.mixed_shape import MAX_TOKENS, MixedShape, mixed_shape, token_sizes
from services.inference.model.step_buffer import NO_SLOT
from tests.unit.inference.model.tiny_checkpoint import CPU

PAGE_TOKENS = 4
SMALL = MixedShape(num_tokens=8, max_sequences=3, row_tile_rows=2, query_tile_rows=4)
LARGE = MixedShape(num_tokens=21, max_sequences=5, row_tile_rows=4, query_tile_rows=4)


def _chunk(count: int, adapter_index: int, *, wants_logits: bool = True) -> Slice:
    return Slice(list(range(1, count + 1)), 3, list(range(50, 60)), adapter_index, wants_logits)


def _buffer() -> MixedBuffer:
    return MixedBuffer([SMALL, LARGE], max_pages=100, page_tokens=PAGE_TOKENS, device=CPU)


def test_padding_after_a_larger_step_reads_and_writes_nothing() -> None:
    buffer = _buffer()
    for _ in range(3):
        buffer.fill([_chunk(4, 1)] * 5, LARGE)
    buffer.fill([_chunk(1, BASE, wants_logits=False), _chunk(3, 2)], SMALL)
    views = buffer.views(SMALL)
    assert views.token_ids_T.tolist() == [1, 1, 2, 3] + [0] * 4
    assert views.positions_T.tolist() == [3, 3, 4, 5] + [0] * 4
    slots = [50 * PAGE_TOKENS + 3, 50 * PAGE_TOKENS + 3, 51 * PAGE_TOKENS, 51 * PAGE_TOKENS + 1]
    assert views.slots_T.tolist() == slots + [NO_SLOT] * 4
    assert views.query_tiles_W4.tolist() == [[0, 0, 1, 3], [1, 1, 3, 3]] + [[0] * 4] * 2
    nothing = [NO_WORK, 0, 0]
    assert views.row_tiles.tiles_W3.tolist() == [[BASE, 0, 1], [2, 1, 3], [2, 3, 4]] + [nothing] * 2
    assert views.row_tiles.num_tiles_1.tolist() == [3]
    assert views.row_tiles.row_adapters_T.tolist() == [BASE, 2, 2, 2] + [BASE] * 4
    assert views.wanted_rows_M.tolist() == [3, 0, 0]
    assert views.wanted_tiles.tiles_W3.tolist() == [[2, 0, 1], nothing, nothing]
    assert views.wanted_tiles.num_tiles_1.tolist() == [1]
    assert views.wanted_tiles.row_adapters_T.tolist() == [2, BASE, BASE]
    assert views.pages_X[:3].tolist() == [50, 50, 51]


@pytest.mark.parametrize("counts", [[21], [1, 1, 1, 1, 17], [5, 5, 5, 5, 1], [1] * 5])
@pytest.mark.parametrize("shape", [LARGE, mixed_shape(64, 5, 4), mixed_shape(1024, 5, 4)])
def test_a_shape_has_room_for_the_tiles_of_any_mix(counts: list[int], shape: MixedShape) -> None:
    buffer = MixedBuffer([shape], max_pages=100, page_tokens=PAGE_TOKENS, device=CPU)
    buffer.fill([_chunk(count, adapter) for adapter, count in enumerate(counts)], shape)
    views = buffer.views(shape)
    rows = [row for _, start, stop in views.row_tiles.tiles_W3.tolist() for row in range(start, stop)]
    queries = [
        row for _, first, count, _ in views.query_tiles_W4.tolist() for row in range(first, first + count)
    ]
    assert rows == queries == list(range(sum(counts)))
    assert all(stop - start <= shape.row_tile_rows for _, start, stop in views.row_tiles.tiles_W3.tolist())


def test_every_field_starts_on_sixteen_bytes() -> None:
    views = _buffer().views(SMALL)
    base = views.token_ids_T.data_ptr()
    for tensor in (
        views.positions_T,
        views.slots_T,
        views.query_tiles_W4,
        views.row_tiles.tiles_W3,
        views.row_tiles.num_tiles_1,
        views.row_tiles.row_adapters_T,
        views.wanted_rows_M,
        views.wanted_tiles.tiles_W3,
        views.wanted_tiles.num_tiles_1,
        views.pages_X,
    ):
        assert (tensor.data_ptr() - base) % 16 == 0


@pytest.mark.parametrize("max_tokens", [1, 64, 100, 2048, 8192])
def test_sizes_rise_to_the_largest_step_with_little_padding(max_tokens: int) -> None:
    sizes = token_sizes(max_tokens)
    assert sizes[-1] == min(max_tokens, MAX_TOKENS)
    assert list(sizes) == sorted(set(sizes))
    assert all(larger <= 2 * smaller for smaller, larger in pairwise(sizes))
    assert all(3 * smaller >= 2 * larger for smaller, larger in pairwise(sizes) if smaller >= 256)
