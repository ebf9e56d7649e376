"""What a table says of an adapter, made before it is known in which pages of the pool the adapter will lie.

An adapter is laid out once, as if its pages were the pool's first; a load then has only to add how far each
page has moved. Must not know residency or devices.

Legend: W sites, J tiles a matrix at most, X offsets: all of W2J, then DoRA's of W.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from kernels.table_row import NO_TILE, SiteRows, TableRow, TableShape


class MovableRow:
    """`rows` of an adapter whose pages of `page_elements` lie anywhere.

    Offsets of `rows` are into the adapter's own `num_pages` pages. `last_pages_W` is the last of them that
    holds weights of each site, or -1.
    """

    def __init__(
        self, shape: TableShape, rows: Sequence[SiteRows], num_pages: int, page_elements: int
    ) -> None:
        self.rows = tuple(rows)
        self._shape = shape
        self._num_pages = num_pages
        self._page_elements = page_elements
        # Kept as long as the adapter is on the host: too long for memory that is pinned.
        self._row = replace(shape, is_pinned=False).row(rows)
        tiles_X, dora_X = self._row.offsets_W2J.numpy().ravel(), self._row.dora_offsets_W.numpy()
        self._offsets_X = np.concatenate([tiles_X, dora_X])
        # NO_TILE counts as in a page past the last, which never moves.
        has_tile_X = self._offsets_X != NO_TILE
        self._page_X = np.where(has_tile_X, self._offsets_X // page_elements, num_pages)
        pages_X = np.where(has_tile_X, self._page_X, -1)
        by_site = pages_X[: len(tiles_X)].reshape(shape.num_sites, -1)
        self.last_pages_W = np.maximum(by_site.max(axis=1), pages_X[len(tiles_X) :])

    def at(self, pages: Sequence[int]) -> TableRow:
        """The row for a table when page i of the adapter lies in the pool's page `pages[i]`."""
        moved = np.zeros(self._num_pages + 1, dtype=np.int64)
        moved[:-1] = (np.array(pages, dtype=np.int64) - np.arange(self._num_pages)) * self._page_elements
        offsets_X = self._offsets_X + moved[self._page_X]
        row = self._shape.blank(self._row.max_rank, partial(self.rows_at, tuple(pages)))
        tiles_X = row.offsets_W2J.numpy().reshape(-1)
        tiles_X[:] = offsets_X[: len(tiles_X)]
        row.dora_offsets_W.numpy()[:] = offsets_X[len(tiles_X) :]
        row.ranks_W.numpy()[:] = self._row.ranks_W.numpy()
        row.scales_W.numpy()[:] = self._row.scales_W.numpy()
        return row

    def rows_at(self, pages: Sequence[int]) -> tuple[SiteRows, ...]:
        """The same as `at`, site by site: slower, and wanted on a host alone."""
        size = self._page_elements
        moved = [(page - index) * size for index, page in enumerate(pages)]

        def absolute(offsets: tuple[int, ...]) -> tuple[int, ...]:
            return tuple([offset + moved[offset // size] for offset in offsets])

        return tuple(
            SiteRows(
                row.site,
                row.rank,
                row.scale,
                absolute(row.a_offsets),
                absolute(row.b_offsets),
                row.dora_offset if row.dora_offset == NO_TILE else absolute((row.dora_offset,))[0],
            )
            for row in self.rows
        )
