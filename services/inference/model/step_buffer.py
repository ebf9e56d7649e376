"""What one decode step reads, in device memory that never moves, sent in one copy.

Must not know models or graphs. Rows past the step's own are padding: token 0, no keys, no slot to
write, no adapter.

Legend: B rows the buffer has room for, W row tiles, X pages of all sequences.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kernels.row_tiles import NO_WORK, TILE_FIELDS, RowTiles
from kernels.segments import BASE
from services.inference.batch import Slice
from services.inference.model.sent_words import SentWords, WordArray
from services.inference.model.tile_cuts import cut_runs

NO_SLOT = -1
DECODE_TILE_ROWS = 8
_ROW_FIELDS = 6
_ALIGNMENT = 16


@dataclass(frozen=True, slots=True)
class StepViews:
    """A step's numbers on the device, int32, one row a sequence; first_pages_B index pages_X."""

    token_ids_B: Tensor
    positions_B: Tensor
    slots_B: Tensor
    context_lens_B: Tensor
    first_pages_B: Tensor
    row_tiles: RowTiles
    pages_X: Tensor


class StepBuffer:
    """Room for `max_rows` sequences of one new token each, with `max_pages` pages in all."""

    def __init__(self, max_rows: int, max_pages: int, page_tokens: int, device: torch.device) -> None:
        self.max_rows = max_rows
        self._page_tokens = page_tokens
        # Every field starts on 16 bytes, which the kernels are compiled for.
        self._field = -(-max_rows // _ALIGNMENT) * _ALIGNMENT
        self._count_word = self._field * (_ROW_FIELDS + TILE_FIELDS)
        self._first_page_word = self._count_word + _ALIGNMENT
        self._words = SentWords(self._first_page_word + max_pages, device)

    def views(self, num_rows: int) -> StepViews:
        """The first `num_rows` rows, and as many row tiles."""
        device_X = self._words.device_X
        fields = device_X[: self._field * _ROW_FIELDS].view(_ROW_FIELDS, self._field)
        parts = fields[:, :num_rows].unbind(0)
        token_ids_B, positions_B, slots_B, context_lens_B, first_pages_B, adapters_B = parts
        tiles = device_X[self._field * _ROW_FIELDS :][: TILE_FIELDS * num_rows]
        return StepViews(
            token_ids_B=token_ids_B,
            positions_B=positions_B,
            slots_B=slots_B,
            context_lens_B=context_lens_B,
            first_pages_B=first_pages_B,
            row_tiles=RowTiles(
                tiles_W3=tiles.view(num_rows, TILE_FIELDS),
                num_tiles_1=device_X[self._count_word : self._count_word + 1],
                row_adapters_T=adapters_B,
                tile_rows=DECODE_TILE_ROWS,
            ),
            pages_X=device_X[self._first_page_word :],
        )

    def fill(self, slices: Sequence[Slice], num_rows: int) -> None:
        """Sends `slices` and padding up to `num_rows`; the device gets them in the stream's order."""
        num_pages = self._pack(self._words.host(), slices, num_rows)
        self._words.send(self._first_page_word + num_pages)

    def _pack(self, words: WordArray, slices: Sequence[Slice], num_rows: int) -> int:
        """Writes the host's words; the number of pages among them."""
        page_tokens, count = self._page_tokens, len(slices)
        fields = words[: self._field * _ROW_FIELDS].reshape(_ROW_FIELDS, self._field)
        fields[:, count:num_rows] = 0
        fields[2, count:num_rows] = NO_SLOT
        fields[5, count:num_rows] = BASE
        token_ids, positions, slots, context_lens, first_pages, adapters = fields[:, :count]
        token_ids[:] = [part.token_ids[0] for part in slices]
        positions[:] = [part.start for part in slices]
        adapters[:] = [part.adapter_index for part in slices]
        context_lens[:] = positions + 1
        num_pages = np.array([len(part.pages) for part in slices], dtype=np.int32)
        ends = num_pages.cumsum(dtype=np.int32)
        first_pages[:] = ends - num_pages
        total = int(ends[-1]) if count else 0
        pages = words[self._first_page_word :][:total]
        if count:
            np.concatenate([part.pages for part in slices], out=pages)
        slots[:] = pages[first_pages + positions // page_tokens] * page_tokens + positions % page_tokens
        self._pack_tiles(words, adapters, num_rows)
        return total

    def _pack_tiles(self, words: WordArray, adapters: WordArray, num_rows: int) -> None:
        """Runs of rows of one adapter, cut; never more tiles than rows."""
        first = self._field * _ROW_FIELDS
        tiles = words[first : first + TILE_FIELDS * num_rows].reshape(num_rows, TILE_FIELDS)
        tiles[:] = (NO_WORK, 0, 0)
        cuts = cut_runs(adapters.astype(np.int64), np.ones(len(adapters), dtype=np.int64), DECODE_TILE_ROWS)
        tiles[: len(cuts)] = cuts
        words[self._count_word] = len(cuts)
