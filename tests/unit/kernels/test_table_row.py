import pytest

from kernels.table_row import NO_TILE, SiteRows, TableShape

SHAPE = TableShape(num_sites=3, max_tiles=2)


def test_arrays_say_what_the_rows_say():
    first = SiteRows(2, 5, 0.5, a_offsets=(64, 8), b_offsets=(128,), dora_offset=256)
    second = SiteRows(0, 7, 2.0, a_offsets=(0,), b_offsets=(16, 32))
    row = SHAPE.row((first, second))
    assert row.offsets_W2J.tolist() == [
        [[0, NO_TILE], [16, 32]],
        [[NO_TILE] * 2, [NO_TILE] * 2],
        [[64, 8], [128, NO_TILE]],
    ]
    assert (row.ranks_W.tolist(), row.scales_W.tolist()) == ([7, 0, 5], [2.0, 0.0, 0.5])
    assert row.dora_offsets_W.tolist() == [NO_TILE, NO_TILE, 256]
    assert (row.list_rows(), row.max_rank) == ((first, second), 7)


def test_an_empty_row_has_no_tiles():
    row = SHAPE.row(())
    assert set(row.offsets_W2J.flatten().tolist()) == {NO_TILE}
    assert (row.ranks_W.sum().item(), row.list_rows(), row.max_rank) == (0, (), 0)


def test_more_tiles_than_the_table_has_room_for_do_not_run_into_the_next_matrix():
    with pytest.raises(ValueError, match="3 tiles"):
        SHAPE.row([SiteRows(0, 5, 1.0, (0, 8, 16), (24,))])
