"""Owner of the pool's pages: which are free, what the others hold, how many readers each has.

A page holds KV or rank rows. Pure bookkeeping: must not know torch or what the bytes mean.
"""

from collections.abc import Iterable
from enum import StrEnum


class PageUse(StrEnum):
    """What a page holds."""

    KV = "kv"
    ADAPTER = "adapter"


class PagePool:
    """Pages 0..num_pages-1, each free or held for one use with a count of references."""

    def __init__(self, num_pages: int) -> None:
        if num_pages < 1:
            raise ValueError(f"a pool needs at least one page, not {num_pages}")
        self.num_pages = num_pages
        self._free = list(range(num_pages - 1, -1, -1))
        self._use: dict[int, PageUse] = {}
        self._references: dict[int, int] = {}
        self._held = dict.fromkeys(PageUse, 0)
        self._peak = dict.fromkeys(PageUse, 0)

    @property
    def num_free(self) -> int:
        """Pages that nobody holds."""
        return len(self._free)

    def num_held(self, use: PageUse) -> int:
        """Pages held for `use`."""
        return self._held[use]

    def peak(self, use: PageUse) -> int:
        """The most pages that were held for `use` at once."""
        return self._peak[use]

    def allocate(self, num_pages: int, use: PageUse) -> tuple[int, ...] | None:
        """Takes `num_pages` free pages, one reference each; None, and nothing taken, if too few are."""
        if num_pages > len(self._free):
            return None
        pages = tuple(self._free.pop() for _ in range(num_pages))
        for page in pages:
            self._use[page] = use
            self._references[page] = 1
        self._held[use] += num_pages
        self._peak[use] = max(self._peak[use], self._held[use])
        return pages

    def share(self, pages: Iterable[int]) -> None:
        """Adds a reference to each of `pages`."""
        for page in pages:
            self._references[page] += 1

    def release(self, pages: Iterable[int]) -> None:
        """Drops a reference to each of `pages`; a page without any is free again.

        Whoever takes as many next gets them in the same order: pages side by side stay so.
        """
        for page in reversed(tuple(pages)):
            self._references[page] -= 1
            if self._references[page] == 0:
                del self._references[page]
                self._held[self._use.pop(page)] -= 1
                self._free.append(page)

    def check_integrity(self) -> None:
        """Raises AssertionError unless every page is exactly once free or held and the counts agree."""
        free, held = set(self._free), set(self._use)
        assert len(free) == len(self._free), "a page is free twice"
        assert not free & held, f"pages both free and held: {sorted(free & held)}"
        assert free | held == set(range(self.num_pages)), "a page is neither free nor held"
        assert held == set(self._references), "a held page without references, or the reverse"
        assert all(count > 0 for count in self._references.values()), "a held page with no reference"
        for use in PageUse:
            count = sum(1 for held_use in self._use.values() if held_use is use)
            assert count == self._held[use], f"{use}: {count} pages, {self._held[use]} counted"

    def __repr__(self) -> str:
        held = ", ".join(f"{use}={self._held[use]}" for use in PageUse)
        return f"PagePool(free={self.num_free}, {held}, total={self.num_pages})"
