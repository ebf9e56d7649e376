import torch

from kernels.rank_row_table import NO_TILE, RankRowTable, SiteRows
from tests.lora_cases import make_sites


def _table() -> RankRowTable:
    return RankRowTable(
        torch.zeros(4096), make_sites((64, 16), (16, 100)), num_adapters=3, max_rank=24, page_elements=512
    )


ROWS = SiteRows(1, 12, 0.5, a_offsets=(64,), b_offsets=(512, 1024, 1536), dora_offset=2048)


def test_tiles_are_powers_of_two_that_fit_a_page():
    table = _table()
    assert table.a_rows == (8, 16)
    assert table.b_rows == (16, 4)
    assert table.offsets_NW2J.shape == (3, 2, 2, 6)


def test_write_shows_on_the_device_and_on_the_host():
    table = _table()
    table.write(2, [ROWS])
    assert table.rows(2) == {1: ROWS}
    assert table.offsets_NW2J[2, 1].tolist() == [[64] + [NO_TILE] * 5, [512, 1024, 1536] + [NO_TILE] * 3]
    assert (table.ranks_NW[2].tolist(), table.scales_NW[2].tolist()) == ([0, 12], [0, 0.5])
    assert table.dora_offsets_NW[2].tolist() == [NO_TILE, 2048]
    assert table.rows(0) == {}
    assert table.ranks_NW[:2].sum() == 0


def test_clear_leaves_nothing():
    table, empty = _table(), _table()
    table.write(1, [ROWS])
    table.clear(1)
    assert table.rows(1) == {}
    assert torch.equal(table.offsets_NW2J, empty.offsets_NW2J)
    assert torch.equal(table.ranks_NW, empty.ranks_NW)
    assert torch.equal(table.dora_offsets_NW, empty.dora_offsets_NW)


def test_generation_changes_with_every_write_and_clear_of_that_adapter_alone():
    table = _table()
    seen = {table.generation(1)}
    for change in (lambda: table.write(1, [ROWS]), lambda: table.write(1, [ROWS]), lambda: table.clear(1)):
        change()
        assert table.generation(1) not in seen
        seen.add(table.generation(1))
    assert table.generation(0) == 0
    assert table.num_writes == 3


def test_max_live_rank():
    table = _table()
    table.write(0, [ROWS, SiteRows(0, 3, 1.0, (0,), (128,))])
    table.write(1, [SiteRows(0, 24, 1.0, (0,), (128,))])
    assert table.max_live_rank([0]) == 12
    assert table.max_live_rank([0, 1, 2]) == 24
    assert table.max_live_rank([]) == 0
    table.clear(1)
    assert table.max_live_rank([0, 1, 2]) == 12
