"""Copies packed adapters into pages of the pool, off the engine's loop.

Legend: P pages of the pool, E elements of a page. Must not know residency or the table: it makes the
table's row, and the engine's loop writes it when `Loaded` arrives, so nobody sees an adapter that is half
there.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from kernels.table_row import TableShape
from services.inference.adapters.completions import Loaded, LoadFailed, defect
from services.inference.adapters.packing import PackedAdapter, place


class Loader:
    """One thread that copies in order of `submit`; on CUDA over a stream of its own.

    Both directions of the race over a page are closed: a copy waits for the steps that were launched
    before its `submit`, which may still read the page, and `Loaded` is posted after the copy is
    done, so that only later steps read the new bytes.
    """

    def __init__(
        self, pool_PE: Tensor, row_shape: TableShape, post: Callable[[Loaded | LoadFailed], None]
    ) -> None:
        self._pool_PE = pool_PE
        self._row_shape = row_shape
        self._post = post
        self._stream: torch.cuda.Stream | None = None
        if pool_PE.is_cuda:
            self._stream = torch.cuda.Stream(pool_PE.device)  # type: ignore[no-untyped-call]
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="load")

    def submit(self, packed: PackedAdapter, pages: Sequence[int]) -> None:
        """Copies `packed` into `pages`; Loaded is posted when it is there, LoadFailed if that went wrong.

        To be called from the thread that launches steps, on the stream it launches them on.
        """
        launched = torch.cuda.current_stream(self._pool_PE.device).record_event() if self._stream else None
        self._thread.submit(self._load, packed, tuple(pages), launched)

    def close(self) -> None:
        """Drops what has not begun and waits for the copy that runs."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _load(self, packed: PackedAdapter, pages: tuple[int, ...], launched: torch.cuda.Event | None) -> None:
        try:
            row = self._row_shape.row(place(packed, pages))
            self._copy_after(launched, packed, pages)
        except Exception as error:
            self._post(LoadFailed(packed.key, defect(f"loading adapter {packed.key[:12]}", error)))
        else:
            self._post(Loaded(packed.key, row))

    def _copy_after(
        self, launched: torch.cuda.Event | None, packed: PackedAdapter, pages: tuple[int, ...]
    ) -> None:
        if self._stream is None or launched is None:
            self._copy(packed, pages)
        else:
            with torch.cuda.stream(self._stream):
                self._stream.wait_event(launched)
                self._copy(packed, pages)
                self._stream.synchronize()

    def _copy(self, packed: PackedAdapter, pages: tuple[int, ...]) -> None:
        for tensor_E, page in zip(packed.pages.tensors_E, pages, strict=True):
            self._pool_PE[page].copy_(tensor_E, non_blocking=True)
