"""Which pages hold the keys and values of each sequence, in order.

Pure bookkeeping over the PagePool: must not know torch, requests or scheduling policy.
"""

from array import array

from services.inference.page_pool import PagePool, PageUse


class KvCache:
    """Page tables by sequence id; page i of a sequence holds tokens i*page_tokens and on.

    They are arrays of 32-bit integers, which a step's buffer copies without looking at each.
    """

    def __init__(self, pool: PagePool, page_tokens: int) -> None:
        self.page_tokens = page_tokens
        self._pool = pool
        self._pages: dict[str, array[int]] = {}

    def pages(self, sequence_id: str) -> "array[int]":
        """The pages of a sequence, in token order; empty if it holds none."""
        return self._pages.get(sequence_id) or array("i")

    def num_pages_for(self, num_tokens: int) -> int:
        """Pages that `num_tokens` tokens take."""
        return -(-num_tokens // self.page_tokens)

    def pages_short(self, sequence_id: str, num_tokens: int) -> int:
        """Pages a sequence lacks to hold `num_tokens` tokens."""
        return max(0, self.num_pages_for(num_tokens) - len(self._pages.get(sequence_id, ())))

    def grow(self, sequence_id: str, num_tokens: int) -> bool:
        """Gives a sequence room for `num_tokens` tokens; False, and nothing changed, if pages are short."""
        num_pages = self.pages_short(sequence_id, num_tokens)
        if num_pages == 0:
            return True
        pages = self._pool.allocate(num_pages, PageUse.KV)
        if pages is None:
            return False
        self._pages.setdefault(sequence_id, array("i")).extend(pages)
        return True

    def release(self, sequence_id: str) -> None:
        """Gives back all pages of a sequence."""
        self._pool.release(self._pages.pop(sequence_id, ()))

    def check_integrity(self) -> None:
        """Raises AssertionError unless the page tables account for every KV page of the pool."""
        distinct = {page for pages in self._pages.values() for page in pages}
        held = self._pool.num_held(PageUse.KV)
        assert len(distinct) == held, f"{len(distinct)} pages in tables, {held} held for KV"

    def __repr__(self) -> str:
        num_pages = sum(len(pages) for pages in self._pages.values())
        return f"KvCache(sequences={len(self._pages)}, pages={num_pages})"
