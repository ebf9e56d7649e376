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

from kernels.row_tiles import NO_WORK, TILE_FIELDS, RowTiles, cut_rows
from kernels.segments import BASE
from services.inference.batch import Slice

NO_SLOT = -1
DECODE_TILE_ROWS = 16
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
    """Room for `max_rows` sequences of one new token each, with `max_pages` pages in all.

    Host memory is pinned where the device is a GPU, and written again only when the copy before has
    ended.
    """

    def __init__(self, max_rows: int, max_pages: int, page_tokens: int, device: torch.device) -> None:
        self.max_rows = max_rows
        self._page_tokens = page_tokens
        # Every field starts on 16 bytes, which the kernels are compiled for.
        self._field = -(-max_rows // _ALIGNMENT) * _ALIGNMENT
        self._count_word = self._field * (_ROW_FIELDS + TILE_FIELDS)
        self._first_page_word = self._count_word + _ALIGNMENT
        num_words = self._first_page_word + max_pages
        self._device_X = torch.zeros(num_words, dtype=torch.int32, device=device)
        is_gpu = device.type == "cuda"
        self._host_X = torch.zeros(num_words, dtype=torch.int32, pin_memory=is_gpu)
        self._words = self._host_X.numpy()
        self._copied: torch.cuda.Event | None = None
        if is_gpu:
            self._copied = torch.cuda.Event()  # type: ignore[no-untyped-call]

    def views(self, num_rows: int) -> StepViews:
        """The first `num_rows` rows, and as many row tiles."""
        fields = self._device_X[: self._field * _ROW_FIELDS].view(_ROW_FIELDS, self._field)
        parts = fields[:, :num_rows].unbind(0)
        token_ids_B, positions_B, slots_B, context_lens_B, first_pages_B, adapters_B = parts
        tiles = self._device_X[self._field * _ROW_FIELDS :][: TILE_FIELDS * num_rows]
        return StepViews(
            token_ids_B=token_ids_B,
            positions_B=positions_B,
            slots_B=slots_B,
            context_lens_B=context_lens_B,
            first_pages_B=first_pages_B,
            row_tiles=RowTiles(
                tiles_W3=tiles.view(num_rows, TILE_FIELDS),
                num_tiles_1=self._device_X[self._count_word : self._count_word + 1],
                row_adapters_T=adapters_B,
                tile_rows=DECODE_TILE_ROWS,
            ),
            pages_X=self._device_X[self._first_page_word :],
        )

    def fill(self, slices: Sequence[Slice], num_rows: int) -> None:
        """Sends `slices` and padding up to `num_rows`; the device gets them in the stream's order."""
        if self._copied is not None:
            self._copied.synchronize()
        num_words = self._first_page_word + self._pack(slices, num_rows)
        self._device_X[:num_words].copy_(self._host_X[:num_words], non_blocking=True)
        if self._copied is not None:
            self._copied.record()

    def _pack(self, slices: Sequence[Slice], num_rows: int) -> int:
        """Writes the host's words; the number of pages among them."""
        page_tokens, count = self._page_tokens, len(slices)
        pages: list[int] = []
        slots, first_pages = [], []
        for part in slices:
            slots.append(part.pages[part.start // page_tokens] * page_tokens + part.start % page_tokens)
            first_pages.append(len(pages))
            pages += part.pages
        positions = [part.start for part in slices]
        fields = self._words[: self._field * _ROW_FIELDS].reshape(_ROW_FIELDS, self._field)
        fields[:, count:num_rows] = 0
        fields[2, count:num_rows] = NO_SLOT
        fields[5, count:num_rows] = BASE
        fields[0, :count] = [part.token_ids[0] for part in slices]
        fields[1, :count] = positions
        fields[2, :count] = slots
        fields[3, :count] = fields[1, :count] + 1
        fields[4, :count] = first_pages
        fields[5, :count] = [part.adapter_index for part in slices]
        tiles = _row_tiles(slices)
        self._words[self._count_word] = len(tiles)
        tiles += [(NO_WORK, 0, 0)] * (num_rows - len(tiles))
        first = self._field * _ROW_FIELDS
        self._words[first : first + TILE_FIELDS * num_rows].reshape(num_rows, TILE_FIELDS)[:] = tiles
        self._words[self._first_page_word :][: len(pages)] = np.array(pages, dtype=np.int32)
        return len(pages)


def _row_tiles(slices: Sequence[Slice]) -> list[tuple[int, int, int]]:
    """Runs of rows of one adapter, cut; never more tiles than rows."""
    tiles: list[tuple[int, int, int]] = []
    first = 0
    for row, part in enumerate(slices):
        if row + 1 == len(slices) or slices[row + 1].adapter_index != part.adapter_index:
            tiles += cut_rows(part.adapter_index, first, row + 1, DECODE_TILE_ROWS)
            first = row + 1
    return tiles
