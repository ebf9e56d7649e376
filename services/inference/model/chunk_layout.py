"""Chunks of sequences laid out row by row and tile by tile, as numbers that kernels read.

Must not know devices. No loop here runs once a token: only once a sequence, the rest is numpy's.

Legend: T tokens of the step, N sequences, W tiles, M rows whose logits are wanted, X pages of all sequences.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from services.inference.batch import Slice
from services.inference.model.tile_cuts import Ints, cut, cut_runs, exclusive_sum


@dataclass(frozen=True, slots=True)
class ChunkLayout:
    """Rows in the slices' order; a slot is page * page_tokens + offset.

    query_tiles_W4 are `kernels.prefill_attention.query_tiles`. row_tiles_W3 cut the rows of each adapter as
    `kernels.row_tiles.RowTiles` has them, wanted_tiles_W3 those of wanted_rows_M, counted among themselves.
    """

    token_ids_T: Ints
    positions_T: Ints
    slots_T: Ints
    adapters_T: Ints
    query_tiles_W4: Ints
    row_tiles_W3: Ints
    wanted_rows_M: Ints
    wanted_adapters_M: Ints
    wanted_tiles_W3: Ints
    pages_X: Ints


@dataclass(frozen=True, slots=True)
class TileRows:
    """The most rows of one tile: tokens of a query tile, rows of an adapter, wanted rows of an adapter."""

    query: int
    lora: int
    wanted: int


def lay_out(slices: Sequence[Slice], page_tokens: int, tile_rows: TileRows) -> ChunkLayout:
    """The layout of `slices`, none of which is empty; slices of one adapter lie side by side."""
    token_ids: list[int] = []
    num_pages: list[int] = []
    for part in slices:
        token_ids += part.token_ids
        num_pages.append(-(-(part.start + len(part.token_ids)) // page_tokens))
    pages_X = _first_pages(slices, num_pages)
    counts_N = _ints([len(part.token_ids) for part in slices])
    starts_N = _ints([part.start for part in slices])
    adapters_N = _ints([part.adapter_index for part in slices])
    is_wanted_N = np.array([part.wants_logits for part in slices], dtype=bool)
    first_rows_N, first_pages_N = exclusive_sum(counts_N), exclusive_sum(_ints(num_pages))
    # What to add to a row's index to get its position in its sequence.
    positions_T = np.repeat(starts_N - first_rows_N, counts_N) + np.arange(len(token_ids))
    pages_T = pages_X[np.repeat(first_pages_N, counts_N) + positions_T // page_tokens]
    wanted_adapters_M = adapters_N[is_wanted_N]
    return ChunkLayout(
        token_ids_T=_ints(token_ids),
        positions_T=positions_T,
        slots_T=pages_T * page_tokens + positions_T % page_tokens,
        adapters_T=np.repeat(adapters_N, counts_N),
        query_tiles_W4=_query_tiles(first_pages_N, first_rows_N, counts_N, starts_N, tile_rows.query),
        row_tiles_W3=cut_runs(adapters_N, counts_N, tile_rows.lora),
        wanted_rows_M=(first_rows_N + counts_N - 1)[is_wanted_N],
        wanted_adapters_M=wanted_adapters_M,
        wanted_tiles_W3=cut_runs(wanted_adapters_M, np.ones_like(wanted_adapters_M), tile_rows.wanted),
        pages_X=pages_X,
    )


def _first_pages(slices: Sequence[Slice], num_pages: Sequence[int]) -> Ints:
    """The first pages of each slice, as many as num_pages says."""
    if not slices:
        return _ints([])
    # Pages are arrays in an engine: numpy copies those without looking at each.
    used = [part.pages[:count] for part, count in zip(slices, num_pages, strict=True)]
    return np.concatenate(used, dtype=np.int64)


def _query_tiles(
    first_pages_N: Ints, first_rows_N: Ints, counts_N: Ints, starts_N: Ints, tile_rows: int
) -> Ints:
    """(first page, first row, rows, first row's position) of tiles of one sequence each."""
    owners_W, offsets_W, rows_W = cut(counts_N, tile_rows)
    first_rows_W, positions_W = first_rows_N[owners_W] + offsets_W, starts_N[owners_W] + offsets_W
    return np.stack((first_pages_N[owners_W], first_rows_W, rows_W, positions_W), axis=1)


def _ints(values: Sequence[int]) -> Ints:
    return np.array(values, dtype=np.int64)
