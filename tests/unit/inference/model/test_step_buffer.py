import pytest

from kernels.row_tiles import NO_WORK
from kernels.segments import BASE
from services.inference.batch import Slice
from services.inference.model.step_buffer import NO_SLOT, StepBuffer
from tests.unit.inference.model.tiny_checkpoint import CPU

PAGE_TOKENS = 4


def _row(token: int, position: int, pages: list[int], adapter_index: int = BASE) -> Slice:
    return Slice([token], position, pages, adapter_index, wants_logits=True)


def _buffer(max_rows: int = 40) -> StepBuffer:
    return StepBuffer(max_rows, max_pages=200, page_tokens=PAGE_TOKENS, device=CPU)


def test_rows_are_where_the_slices_say() -> None:
    buffer = _buffer()
    buffer.fill([_row(7, 5, [30, 9]), _row(8, 0, [4], 2), _row(9, 11, [1, 2, 3], 2)], 3)
    views = buffer.views(3)
    assert views.token_ids_B.tolist() == [7, 8, 9]
    assert views.positions_B.tolist() == [5, 0, 11]
    assert views.slots_B.tolist() == [9 * PAGE_TOKENS + 1, 4 * PAGE_TOKENS, 3 * PAGE_TOKENS + 3]
    assert views.context_lens_B.tolist() == [6, 1, 12]
    assert views.first_pages_B.tolist() == [0, 2, 3]
    assert views.pages_X[:6].tolist() == [30, 9, 4, 1, 2, 3]
    assert views.row_tiles.tiles_W3.tolist() == [[BASE, 0, 1], [2, 1, 3], [NO_WORK, 0, 0]]
    assert views.row_tiles.num_tiles_1.tolist() == [2]
    assert views.row_tiles.row_adapters_T.tolist() == [BASE, 2, 2]


def test_padding_after_a_larger_step_reads_and_writes_nothing() -> None:
    buffer = _buffer()
    buffer.fill([_row(5, 9, [3, 4, 5], 1)] * 8, 8)
    buffer.fill([_row(6, 2, [7], 1)], 8)
    views = buffer.views(8)
    assert views.context_lens_B.tolist() == [3] + [0] * 7
    assert views.slots_B.tolist() == [7 * PAGE_TOKENS + 2] + [NO_SLOT] * 7
    assert views.token_ids_B.tolist() == [6] + [0] * 7
    assert views.row_tiles.tiles_W3.tolist() == [[1, 0, 1]] + [[NO_WORK, 0, 0]] * 7
    assert views.row_tiles.num_tiles_1.tolist() == [1]
    assert views.row_tiles.row_adapters_T.tolist() == [1] + [BASE] * 7


@pytest.mark.parametrize("counts", [[40], [1] * 40, [17, 1, 16, 6]])
def test_tiles_cover_every_adapter_s_rows_and_fit(counts: list[int]) -> None:
    rows = [_row(1, 0, [0], adapter) for adapter, count in enumerate(counts) for _ in range(count)]
    buffer = _buffer()
    buffer.fill(rows, len(rows))
    tiles = [tile for tile in buffer.views(len(rows)).row_tiles.tiles_W3.tolist() if tile[0] != NO_WORK]
    covered = [(adapter, row) for adapter, start, stop in tiles for row in range(start, stop)]
    assert covered == [(part.adapter_index, row) for row, part in enumerate(rows)]
    assert all(stop - start <= 16 for _, start, stop in tiles)


@pytest.mark.parametrize("max_rows", [1, 3, 40, 250, 256])
def test_every_field_starts_on_sixteen_bytes(max_rows: int) -> None:
    views = _buffer(max_rows).views(1)
    base = views.token_ids_B.data_ptr()
    for tensor in (
        views.positions_B,
        views.slots_B,
        views.row_tiles.tiles_W3,
        views.row_tiles.num_tiles_1,
        views.pages_X,
    ):
        assert (tensor.data_ptr() - base) % 16 == 0
