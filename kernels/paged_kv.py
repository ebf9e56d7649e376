"""Where keys and values lie in the pool.

Must not know which request owns a page.

Legend: E elements of the pool.
"""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class PagedKv:
    """The pool read as pages, page p being [num_layers, 2, page_tokens, num_kv_heads, head_dim].

    Token i of a sequence lies at offset i % page_tokens of the sequence's page i // page_tokens; keys
    are at 0 of the second dimension, values at 1. A slot is page * page_tokens + offset.
    """

    pool_E: Tensor
    num_layers: int
    page_tokens: int
    num_kv_heads: int
    head_dim: int

    @property
    def slab_elements(self) -> int:
        """Elements of the keys (or the values) that one page holds of one layer."""
        return self.page_tokens * self.num_kv_heads * self.head_dim

    @property
    def page_elements(self) -> int:
        """Elements of a page."""
        return self.num_layers * 2 * self.slab_elements

    def layer_offset(self, layer: int) -> int:
        """Where in a page the keys of `layer` begin; its values follow them."""
        return 2 * layer * self.slab_elements
