"""The pool's pages read as keys and values, layer by layer.

Legend: E elements of the pool, T tokens, N sequences, P pages, R token rows of the whole pool, G KV
heads, D head dim, L slabs a page (keys and values of each layer), X all the rest.
Must not know which request owns a page.
"""

from torch import Tensor

from services.inference.model.config import ModelConfig


def kv_page_elements(config: ModelConfig, page_tokens: int) -> int:
    """Elements of a page that holds keys and values of `page_tokens` tokens in every layer."""
    return config.num_layers * 2 * page_tokens * config.kv_size


class KvPages:
    """Views of the pool: page p is [num_layers, 2, page_tokens, num_kv_heads, head_dim]."""

    def __init__(self, pool_E: Tensor, config: ModelConfig, page_tokens: int) -> None:
        page_elements = kv_page_elements(config, page_tokens)
        if pool_E.numel() % page_elements:
            raise ValueError(f"a pool of {pool_E.numel()} elements is not cut into pages of {page_elements}")
        self.page_tokens = page_tokens
        self.dtype = pool_E.dtype
        self._rows_a_page = config.num_layers * 2 * page_tokens
        self._heads = (config.num_kv_heads, config.head_dim)
        self._pages_PX = pool_E.view(-1, page_elements)
        self._rows_RGD = pool_E.view(-1, *self._heads)
        self._slabs_PLX = pool_E.view(-1, config.num_layers * 2, page_tokens * config.kv_size)

    def rows(self, slots_T: Tensor) -> Tensor:
        """Token rows in a page's first slab for `slots_T` (page * page_tokens + offset)."""
        pages_T = slots_T // self.page_tokens
        return slots_T + pages_T * (self._rows_a_page - self.page_tokens)

    def write(self, layer: int, rows_T: Tensor, key_TGD: Tensor, value_TGD: Tensor) -> None:
        """Puts each token's key and value at its row of `rows`. Mutates the pool."""
        first = 2 * layer * self.page_tokens
        self._rows_RGD[first:].index_copy_(0, rows_T, key_TGD)
        self._rows_RGD[first + self.page_tokens :].index_copy_(0, rows_T, value_TGD)

    def read(self, layer: int, pages_NP: Tensor) -> tuple[Tensor, Tensor]:
        """Copies of the keys and the values in `pages_NP`, [N, P * page_tokens, G, D] each."""
        pages_X = pages_NP.flatten()
        keys = self._slabs_PLX[:, 2 * layer].index_select(0, pages_X)
        values = self._slabs_PLX[:, 2 * layer + 1].index_select(0, pages_X)
        shape = (pages_NP.shape[0], -1, *self._heads)
        return keys.view(shape), values.view(shape)

    def clear(self, pages_P: Tensor) -> None:
        """Zeroes whole pages. Mutates the pool."""
        self._pages_PX.index_fill_(0, pages_P, 0)
