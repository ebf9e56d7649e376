import pytest

from kernels.lora_site import tile_rows


@pytest.mark.parametrize(("width", "rows"), [(1, 16), (64, 16), (65, 8), (128, 8), (500, 2), (1024, 1)])
def test_a_tile_is_the_power_of_two_rows_that_fits(width: int, rows: int):
    assert tile_rows(width, 1024) == rows


def test_a_row_wider_than_a_page_is_refused():
    with pytest.raises(ValueError, match="1024 elements holds no rank row of 1025"):
        tile_rows(1025, 1024)
