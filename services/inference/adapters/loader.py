"""Launches the copies of packed adapters into pages of the pool, layer by layer, and tells when they end.

Legend: E elements of the pool. Must not know residency or who waits: steps wait at the gates.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from torch import Tensor

from kernels.rank_row_table import RankRowTable
from services.common.errors import ServiceError
from services.inference.adapters.completions import LoadEnded, defect
from services.inference.adapters.host_arena import HostPages
from services.inference.adapters.packing import PackedAdapter
from services.inference.copy_stream import CopyStream, EndEvent
from services.inference.layer_gates import LoadGates

Copy = Callable[[Tensor, Tensor], None]

# A step's own small copies may have to wait for the one that runs: at 50 GB/s, 0.16 ms.
MAX_COPY_BYTES = 8 << 20


def _copy(target_E: Tensor, source_E: Tensor) -> None:
    target_E.copy_(source_E, non_blocking=True)


class Loader:
    """Copies over a stream of its own, in order of `submit`, while steps go on.

    Both directions of the race over a page are closed on the device: a copy waits for the steps that were
    launched before its `submit`, which may still read the page, and a later step that reads the page waits
    at a gate, behind the copy. One thread waits for the copies' ends, so that nobody else does.
    """

    def __init__(
        self,
        table: RankRowTable,
        stream: CopyStream,
        gates: LoadGates,
        post: Callable[[LoadEnded], None],
        copy: Copy = _copy,
        max_copy_bytes: int = MAX_COPY_BYTES,
    ) -> None:
        self._table = table
        self._stream = stream
        self._gates = gates
        self._post = post
        self._copy = copy
        self._max_pages = max(1, max_copy_bytes // (table.page_elements * table.pool_E.itemsize))
        self._site_gates = np.array(gates.site_gates)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="load")

    def submit(self, packed: PackedAdapter, adapter_index: int, pages: Sequence[int]) -> ServiceError | None:
        """Launches the copies of `packed` into `pages`, and writes the table's row `adapter_index`.

        From then on steps may use the adapter, if they pass the gates; not so if an error is returned.
        Either way LoadEnded is posted once the device has done what was launched: until then `packed` must
        stay, and `pages` be nobody else's. To be called from the thread that launches steps.
        """
        try:
            ended = self._launch(packed, pages)
            self._gates.begin(adapter_index, ended)
            self._table.put(adapter_index, packed.row.at(pages))
        except Exception as failure:
            error = defect(f"loading adapter {packed.key[:12]}", failure)
            # Where it failed is not known: only when the whole stream is done, nothing can follow.
            self._thread.submit(self._tell, packed, self._stream.synchronize)
            return error
        self._thread.submit(self._tell, packed, ended.synchronize)
        return None

    def close(self) -> None:
        """Waits for the copies under way: none may outlive the memory that it reads or writes."""
        self._thread.shutdown(wait=True)

    def _tell(self, packed: PackedAdapter, wait: Callable[[], None]) -> None:
        try:
            wait()
        except Exception as failure:
            # Nobody knows what the device still does, so its pages stay taken.
            defect(f"waiting for the copy of adapter {packed.key[:12]}", failure)
        else:
            self._post(LoadEnded(packed.key))

    def _launch(self, packed: PackedAdapter, pages: Sequence[int]) -> EndEvent:
        ended = self._stream.make_end()
        gates_behind = self._gates_behind(packed)
        size, pool_E = self._table.page_elements, self._table.pool_E
        with self._stream.behind_steps():
            for first, stop in _runs(packed.pages, pages, set(gates_behind), self._max_pages):
                target_E = pool_E[pages[first] * size : (pages[first] + stop - first) * size]
                self._copy(target_E, packed.pages.run(first, stop))
                for gate in gates_behind.get(stop - 1, ()):
                    self._gates.record(gate)
            ended.record()
        return ended

    def _gates_behind(self, packed: PackedAdapter) -> dict[int, list[int]]:
        """Gates by the page that is the last to hold what they guard."""
        last_pages = np.full(self._gates.num_gates, -1)
        np.maximum.at(last_pages, self._site_gates, packed.row.last_pages_W)
        behind: dict[int, list[int]] = {}
        for gate, page in enumerate(last_pages.tolist()):
            if page >= 0:
                behind.setdefault(page, []).append(gate)
        return behind


def _runs(host: HostPages, pages: Sequence[int], ends: set[int], max_pages: int) -> Iterator[tuple[int, int]]:
    """(first, stop) of pages that lie side by side in both memories; a run ends at each of `ends`."""
    if len(host.numbers) != len(pages):
        raise ValueError(f"{len(host.numbers)} pages to copy into {len(pages)}")
    first = 0
    for index, page in enumerate(pages):
        is_end = index in ends or index + 1 in (len(pages), first + max_pages)
        if is_end or pages[index + 1] != page + 1 or not host.is_beside_next(index):
            yield first, index + 1
            first = index + 1
