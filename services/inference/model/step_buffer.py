"""What one decode step reads, in device memory that never moves, sent in one copy.

Must not know models or graphs. Rows past the step's own are padding: token 0, no keys, no slot to
write, no adapter.

Legend: B rows the buffer has room for, W row tiles, X pages of all sequences.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kernels.row_tiles import NO_WORK, TILE_FIELDS, RowTiles
from kernels.segments import BASE
from services.inference.batch import Slice

NO_SLOT = -1
DECODE_TILE_ROWS = 16
_ROW_FIELDS = 6
_ALIGNMENT = 16
NUM_HOST_BUFFERS = 2

WordArray = NDArray[np.int32]


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


class _HostWords:
    """Words on the host, pinned for a GPU, and whether they may be written."""

    def __init__(self, num_words: int, device: torch.device) -> None:
        is_gpu = device.type == "cuda"
        self._host_X = torch.zeros(num_words, dtype=torch.int32, pin_memory=is_gpu)
        self.words: WordArray = self._host_X.numpy()
        self._copied: torch.cuda.Event | None = None
        if is_gpu:
            self._copied = torch.cuda.Event()  # type: ignore[no-untyped-call]

    def wait(self) -> None:
        if self._copied is not None:
            self._copied.synchronize()

    def send(self, to_X: Tensor, num_words: int) -> None:
        to_X[:num_words].copy_(self._host_X[:num_words], non_blocking=True)
        if self._copied is not None:
            self._copied.record()


class StepBuffer:
    """Room for `max_rows` sequences of one new token each, with `max_pages` pages in all.

    Host memory is written again only when its copy has ended. There are two of it in turn, so that one step
    can be filled in while the one before still waits for its copy.
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
        self._hosts = [_HostWords(num_words, device) for _ in range(NUM_HOST_BUFFERS)]
        self._turn = 0

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
        host = self._hosts[self._turn]
        self._turn = (self._turn + 1) % len(self._hosts)
        host.wait()
        num_words = self._first_page_word + self._pack(host.words, slices, num_rows)
        host.send(self._device_X, num_words)

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
        begins, ends = _runs(adapters)
        num_tiles = -(-(ends - begins) // DECODE_TILE_ROWS)
        run = np.repeat(np.arange(len(begins)), num_tiles)
        in_run = np.arange(len(run)) - (num_tiles.cumsum() - num_tiles)[run]
        starts = begins[run] + in_run * DECODE_TILE_ROWS
        stops = np.minimum(starts + DECODE_TILE_ROWS, ends[run])
        tiles[: len(run)] = np.stack([adapters[starts], starts, stops], axis=1)
        words[self._count_word] = len(run)


def _runs(adapters: WordArray) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """First row, and last row + 1, of each run of rows of one adapter."""
    if len(adapters) == 0:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    changes = np.flatnonzero(np.diff(adapters)) + 1
    return np.concatenate([[0], changes]), np.concatenate([changes, [len(adapters)]])
