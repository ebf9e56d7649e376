"""Host memory for packed adapters: pages that are used again and again, made in slabs as they are wanted.

Memory that a GPU copies from must be pinned, which takes longer than reading an adapter: so it is never
made for one adapter. Thread-safe. Must not know adapters or what stays: residency decides.

Legend: P pages of a slab, E elements of a page.
"""

import heapq
import threading
from dataclasses import dataclass

import torch
from torch import Tensor

# While memory is pinned the driver may keep other threads from launching, the engine's loop among them:
# so it is pinned in small pieces, and some of it ahead.
SLAB_BYTES = 32 << 20
SPARE_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class HostPages:
    """Pages of the arena, by number, and their memory: `tensors_E[i]` is page `numbers[i]`."""

    numbers: tuple[int, ...]
    tensors_E: tuple[Tensor, ...]
    slab_pages: int

    def is_beside_next(self, index: int) -> bool:
        """Whether page `index` + 1 of these begins where page `index` ends."""
        following = self.numbers[index] + 1
        return self.numbers[index + 1] == following and following % self.slab_pages != 0

    def run(self, first: int, stop: int) -> Tensor:
        """Pages `first` to `stop` - 1, each beside the next, as one flat tensor."""
        tensor_E = self.tensors_E[first]
        return tensor_E.as_strided(((stop - first) * tensor_E.numel(),), (1,))


class HostArena:
    """`capacity_bytes` and `spare_bytes` more, but for what is taken while no page is free.

    Residency drops copies when they are over its capacity, and it learns of a copy when it is packed: what is
    spare is for fetches under way. If those, or copies that requests wait for, want still more, further
    slabs are made; their pages are the last to be used, and they go when all their pages are free. At most a
    quarter of the capacity is spare, and a slab is no larger.
    """

    def __init__(
        self,
        page_elements: int,
        dtype: torch.dtype,
        capacity_bytes: int,
        *,
        pinned: bool = False,
        slab_bytes: int = SLAB_BYTES,
        spare_bytes: int = SPARE_BYTES,
    ) -> None:
        self.page_elements = page_elements
        self.dtype = dtype
        self._pinned = pinned
        page_bytes = page_elements * dtype.itemsize
        self._spare_pages = max(1, min(spare_bytes, capacity_bytes // 4) // page_bytes)
        self._slab_pages = max(1, min(slab_bytes // page_bytes, self._spare_pages))
        num_slabs = -(-capacity_bytes // (page_bytes * self._slab_pages))
        self._max_slabs = num_slabs + -(-self._spare_pages // self._slab_pages)
        self._lock = threading.Lock()
        self._growing = threading.Lock()
        self._slabs: dict[int, Tensor] = {}
        self._free: list[int] = []
        self._taken: set[int] = set()

    @property
    def num_pages(self) -> int:
        """Pages that there is memory for."""
        with self._lock:
            return len(self._slabs) * self._slab_pages

    @property
    def num_taken(self) -> int:
        """Pages that somebody holds."""
        with self._lock:
            return len(self._taken)

    def take(self, num_pages: int) -> HostPages:
        """`num_pages` pages with any bytes in them; makes slabs if too few are free.

        Raises MemoryError if there is no memory for that.
        """
        while True:
            with self._lock:
                if len(self._free) >= num_pages:
                    numbers = tuple(heapq.heappop(self._free) for _ in range(num_pages))
                    self._taken.update(numbers)
                    return HostPages(numbers, tuple(map(self._tensor, numbers)), self._slab_pages)
            # Beside the lock: whoever gives pages back must not wait for memory to be pinned.
            with self._growing:
                if self._num_free() < num_pages:
                    self._grow()

    def give_back(self, pages: HostPages) -> None:
        """Ends the use of `pages`."""
        with self._lock:
            self._taken.difference_update(pages.numbers)
            for number in pages.numbers:
                heapq.heappush(self._free, number)
            self._shrink()

    def prepare(self) -> None:
        """Makes slabs while less than half of what is to be spare is free, and they may stay.

        To be called when nobody waits: the next `take` should find pages.
        """
        while self._prepare_slab():
            pass

    def _prepare_slab(self) -> bool:
        # One at a time, so that a `take` meanwhile waits for one at most.
        with self._growing:
            with self._lock:
                wanted = 2 * len(self._free) < self._spare_pages and len(self._slabs) < self._max_slabs
            if wanted:
                self._grow()
            return wanted

    def _grow(self) -> None:
        try:
            slab_PE = torch.empty(
                (self._slab_pages, self.page_elements), dtype=self.dtype, pin_memory=self._pinned
            )
        except RuntimeError as error:  # torch's word for too little memory
            raise MemoryError("no memory for host copies of adapters") from error
        with self._lock:
            slab = next(i for i in range(len(self._slabs) + 1) if i not in self._slabs)
            self._slabs[slab] = slab_PE
            for number in range(slab * self._slab_pages, (slab + 1) * self._slab_pages):
                heapq.heappush(self._free, number)

    def _shrink(self) -> None:
        while len(self._slabs) > self._max_slabs and len(self._free) >= self._slab_pages:
            slab = max(self._slabs)
            numbers = range(slab * self._slab_pages, (slab + 1) * self._slab_pages)
            if not self._taken.isdisjoint(numbers):
                return
            del self._slabs[slab]
            self._free = [number for number in self._free if number not in numbers]
            heapq.heapify(self._free)

    def _num_free(self) -> int:
        with self._lock:
            return len(self._free)

    def _tensor(self, number: int) -> Tensor:
        slab, index = divmod(number, self._slab_pages)
        return self._slabs[slab][index]

    def check_integrity(self) -> None:
        """Raises AssertionError unless every page is either free or taken."""
        with self._lock:
            made = {
                slab * self._slab_pages + index for slab in self._slabs for index in range(self._slab_pages)
            }
            assert set(self._free) | self._taken == made, repr(self)
            assert len(self._free) + len(self._taken) == len(made), "a page is both free and taken"

    def __repr__(self) -> str:
        return f"HostArena(slabs={len(self._slabs)}, free={len(self._free)}, taken={len(self._taken)})"
