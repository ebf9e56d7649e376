import random

import pytest
import torch

from kernels.row_tiles import NO_WORK, make_row_tiles, max_row_tiles
from kernels.segments import BASE, make_segments

CPU = torch.device("cpu")


@pytest.mark.parametrize("seed", range(20))
def test_tiles_cover_every_row_once_within_the_bound(seed: int):
    draw = random.Random(seed)
    runs = [(draw.randint(-1, 5), draw.choice([1, 1, 2, 15, 16, 17, 40])) for _ in range(draw.randint(1, 12))]
    segments = make_segments(runs, CPU)
    row_tiles = make_row_tiles(segments, 16, CPU)
    tiles, num_tiles = row_tiles.tiles_W3.tolist(), int(row_tiles.num_tiles_1)
    owner = [a for a, count in runs for _ in range(count)]
    seen: list[int] = []
    for adapter, start, stop in tiles[:num_tiles]:
        assert 0 < stop - start <= 16
        assert owner[start:stop] == [adapter] * (stop - start)
        seen.extend(range(start, stop))
    assert seen == list(range(len(owner)))
    assert tiles[num_tiles:] == [[NO_WORK, 0, 0]] * (len(tiles) - num_tiles)
    assert row_tiles.row_adapters_T.tolist() == owner
    assert len(tiles) == max_row_tiles(len(owner), len(segments.adapter_indices), 16)


def test_the_grid_does_not_depend_on_who_the_rows_belong_to():
    one = make_row_tiles(make_segments([(0, 3), (BASE, 2), (1, 4)], CPU), 16, CPU)
    other = make_row_tiles(make_segments([(7, 1), (2, 7), (5, 1)], CPU), 16, CPU)
    assert one.tiles_W3.shape == other.tiles_W3.shape
