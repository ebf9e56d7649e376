import pytest

from kernels.movable_row import MovableRow
from kernels.table_row import NO_TILE, SiteRows, TableShape

SHAPE = TableShape(num_sites=3, max_tiles=2)
E = 64
ROWS = (
    SiteRows(2, 5, 0.5, a_offsets=(0, 72), b_offsets=(128 + 16,), dora_offset=3 * E),
    SiteRows(0, 7, 2.0, a_offsets=(8,), b_offsets=(16, 96)),
)


@pytest.fixture
def movable():
    return MovableRow(SHAPE, ROWS, 4, E)


def test_where_the_pages_were_laid_out_it_says_what_it_was_given(movable):
    placed, given = movable.at(range(4)), SHAPE.row(ROWS)
    for name in ("offsets_W2J", "dora_offsets_W", "ranks_W", "scales_W"):
        assert getattr(placed, name).tolist() == getattr(given, name).tolist()
    assert (placed.max_rank, placed.list_rows()) == (7, ROWS)


def test_offsets_move_with_their_page_wherever_that_is(movable):
    placed = movable.at([9, 2, 0, 5])
    assert placed.offsets_W2J.tolist() == [
        [[9 * E + 8, NO_TILE], [9 * E + 16, 2 * E + 32]],
        [[NO_TILE] * 2, [NO_TILE] * 2],
        [[9 * E, 2 * E + 8], [16, NO_TILE]],
    ]
    assert placed.dora_offsets_W.tolist() == [NO_TILE, NO_TILE, 5 * E]
    same = SHAPE.row(placed.list_rows())
    assert same.offsets_W2J.tolist() == placed.offsets_W2J.tolist()
    assert same.dora_offsets_W.tolist() == placed.dora_offsets_W.tolist()


def test_it_can_be_placed_again_and_the_first_place_stays(movable):
    first = movable.at([9, 2, 0, 5])
    before = first.offsets_W2J.tolist()
    movable.at([1, 3, 4, 6])
    assert first.offsets_W2J.tolist() == before


def test_it_knows_the_last_page_of_every_site(movable):
    assert movable.last_pages_W.tolist() == [1, -1, 3]


def test_too_few_or_too_many_pages_are_refused(movable):
    for pages in ([1, 2, 3], [1, 2, 3, 4, 5]):
        with pytest.raises(ValueError, match="broadcast"):
            movable.at(pages)
