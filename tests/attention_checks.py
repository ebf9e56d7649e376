"""What paged attention is held to, on any device: pages of NaNs but for what a sequence wrote."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.decode_attention import decode_attention
from kernels.paged_kv import PagedKv
from kernels.prefill_attention import prefill_attention, query_tiles, tile_tokens

LAYERS = 2
LAYER = 1
TOLERANCES = {torch.float32: 1e-5, torch.bfloat16: 2**-6, torch.float16: 2**-9}
"""A rounding of 2^-8 (2^-11) in the values' weights and in the result, of values up to 4."""


@dataclass(frozen=True)
class AttentionCase:
    contexts: tuple[int, ...]
    heads_a_group: int = 4
    kv_heads: int = 2
    head_dim: int = 32
    page_tokens: int = 16
    window: int | None = None


DECODE_CASES = {
    "odd_contexts": AttentionCase((1, 17, 0, 64, 65, 33)),
    "one_long": AttentionCase((300,), heads_a_group=2, kv_heads=1),
    "many_shares": AttentionCase((700, 3), heads_a_group=1, kv_heads=1),
    "three_heads_a_group": AttentionCase((5, 90), heads_a_group=3),
    "eight_heads_a_group": AttentionCase((70, 31), heads_a_group=8),
    "small_head": AttentionCase((20, 7), head_dim=8, page_tokens=4),
    "odd_head": AttentionCase((20, 75), head_dim=20, page_tokens=8),
    "window": AttentionCase((200, 30, 31, 0, 1), window=30),
    "window_of_one": AttentionCase((5, 70), window=1),
}
PREFILL_CASES = {
    "one_token": AttentionCase((40, 1)),
    "odd_contexts": AttentionCase((65, 17, 90)),
    "one_head_a_group": AttentionCase((150,), heads_a_group=1, kv_heads=1),
    "three_heads_a_group": AttentionCase((30, 44), heads_a_group=3),
    "small_head": AttentionCase((20, 7), head_dim=8, page_tokens=4),
    "window": AttentionCase((100, 12), window=9),
}


class PagedSequences:
    """Random keys and values of `case`'s sequences, in scattered pages of a pool of NaNs."""

    def __init__(self, case: AttentionCase, dtype: torch.dtype, device: str) -> None:
        self.case = case
        generator = torch.Generator().manual_seed(11)
        counts = [-(-context // case.page_tokens) for context in case.contexts]
        num_pages = sum(counts) + 3
        pages = random.Random(2).sample(range(num_pages), sum(counts))
        self.firsts = [sum(counts[:n]) for n in range(len(counts))]
        elements = num_pages * LAYERS * 2 * case.page_tokens * case.kv_heads * case.head_dim
        pool = torch.full((elements,), float("nan"), dtype=dtype)
        view = pool.view(num_pages, LAYERS, 2, case.page_tokens, case.kv_heads, case.head_dim)
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []
        for n, context in enumerate(case.contexts):
            both = torch.randn(2, context, case.kv_heads, case.head_dim, generator=generator).to(dtype)
            for s in range(context):
                page = pages[self.firsts[n] + s // case.page_tokens]
                view[page, LAYER, :, s % case.page_tokens] = both[:, s]
            self.keys.append(both[0].double())
            self.values.append(both[1].double())
        self.kv = PagedKv(pool.to(device), LAYERS, case.page_tokens, case.kv_heads, case.head_dim)
        # The table's end is a page that no sequence has.
        self.pages_X = torch.tensor([*pages, 2**30], dtype=torch.int32, device=device)
        self._generator, self._dtype, self._device = generator, dtype, device

    def query(self, num_rows: int) -> Tensor:
        shape = (num_rows, self.case.kv_heads * self.case.heads_a_group, self.case.head_dim)
        return torch.randn(shape, generator=self._generator).to(self._dtype)

    def ints(self, values: Sequence[object]) -> Tensor:
        return torch.tensor(values, dtype=torch.int32, device=self._device)

    def expected(self, query_QD: Tensor, n: int, position: int) -> Tensor:
        """One row's attention in float64, head by head."""
        oldest = 0 if self.case.window is None else max(0, position + 1 - self.case.window)
        outputs = []
        for head, q_D in enumerate(query_QD.double()):
            group = head // self.case.heads_a_group
            keys = self.keys[n][oldest : position + 1, group]
            weights = (keys @ q_D / self.case.head_dim**0.5).softmax(0)
            outputs.append(weights @ self.values[n][oldest : position + 1, group])
        return torch.cat(outputs).float()


def check_decode(case: AttentionCase, dtype: torch.dtype, device: str) -> None:
    sequences = PagedSequences(case, dtype, device)
    query_NQD = sequences.query(len(case.contexts))
    out_NX = decode_attention(
        query_NQD.to(device),
        sequences.kv,
        LAYER,
        sequences.ints(case.contexts),
        sequences.ints(sequences.firsts),
        sequences.pages_X,
        case.window,
    )
    assert out_NX.dtype == dtype
    for n, context in enumerate(case.contexts):
        found = out_NX[n].float().cpu()
        expected = sequences.expected(query_NQD[n], n, context - 1) if context else torch.zeros_like(found)
        torch.testing.assert_close(found, expected, rtol=0, atol=TOLERANCES[dtype])


def check_prefill(case: AttentionCase, dtype: torch.dtype, device: str) -> None:
    """The later two thirds of every sequence are the chunk."""
    sequences = PagedSequences(case, dtype, device)
    starts = [0]
    for context in case.contexts:
        starts.append(starts[-1] + context - context // 3)
    query_TQD = sequences.query(starts[-1])
    tiles = query_tiles(starts, case.contexts, sequences.firsts, tile_tokens(case.heads_a_group))
    out_TX = prefill_attention(
        query_TQD.to(device), sequences.kv, LAYER, sequences.ints(tiles), sequences.pages_X, case.window
    )
    assert out_TX.dtype == dtype
    for n, context in enumerate(case.contexts):
        for row in range(starts[n], starts[n + 1]):
            expected = sequences.expected(query_TQD[row], n, context - starts[n + 1] + row)
            torch.testing.assert_close(out_TX[row].float().cpu(), expected, rtol=0, atol=TOLERANCES[dtype])
