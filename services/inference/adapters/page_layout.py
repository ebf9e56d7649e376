"""Where tiles of rank rows go in pages. Must not know what is in them.

Legend: R rank rows, K features of a row.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.lora_site import tile_rows

# Tiles start at multiples of this, so that 16-byte vector loads are aligned.
ALIGNMENT_ELEMENTS = 8


@dataclass(frozen=True, slots=True, eq=False)
class Tile:
    """`values` in rank order are to lie from element `start` of page `page` on."""

    page: int
    start: int
    values: Tensor


class PageLayout:
    """First fit: a tile goes into the first page that has room, and only then into a new one.

    So every page but the last is filled but for less than one tile. Raises ValueError unless a page is a
    multiple of the alignment.
    """

    def __init__(self, page_elements: int) -> None:
        if page_elements % ALIGNMENT_ELEMENTS:
            raise ValueError(f"a page must be a multiple of {ALIGNMENT_ELEMENTS} elements")
        self._page_elements = page_elements
        self._free: list[int] = []
        self.tiles: list[Tile] = []

    @property
    def num_pages(self) -> int:
        """Pages with something in them."""
        return len(self._free)

    def add_rows(self, rows_RK: Tensor) -> tuple[int, ...]:
        """Offsets of the tiles of `rows_RK`."""
        num_rows = tile_rows(rows_RK.shape[1], self._page_elements)
        if len(rows_RK) <= num_rows:
            return (self.add(rows_RK),)
        return tuple(self.add(tile) for tile in torch.split(rows_RK, num_rows))

    def add(self, tile: Tensor) -> int:
        """Offset of `tile`, as if the pages lay side by side."""
        size = _padded(tile.numel())
        page = next((page for page, free in enumerate(self._free) if free >= size), len(self._free))
        if page == len(self._free):
            self._free.append(self._page_elements)
        start = self._page_elements - self._free[page]
        self._free[page] -= size
        self.tiles.append(Tile(page, start, tile))
        return page * self._page_elements + start

    def gaps(self) -> Iterator[tuple[int, int, int]]:
        """(page, start, stop) of all elements that belong to no tile."""
        for page, free in enumerate(self._free):
            if free:
                yield page, self._page_elements - free, self._page_elements
        for tile in self.tiles:
            size = tile.values.numel()
            if size % ALIGNMENT_ELEMENTS:
                yield tile.page, tile.start + size, tile.start + _padded(size)


def _padded(size: int) -> int:
    return -(-size // ALIGNMENT_ELEMENTS) * ALIGNMENT_ELEMENTS
