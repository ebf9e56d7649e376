"""Attention by torch's scaled_dot_product_attention over gathered pages, on any device.

Legend: T tokens of the step, N sequences read together, L query tokens a sequence, P pages a
sequence, S key positions, Q query heads, G KV heads, R query heads a KV head, D head dim. Must not
know projections or LoRA.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

from services.inference.batch import Batch
from services.inference.model.config import ModelConfig
from services.inference.model.kv_pages import KvPages


@dataclass(frozen=True, slots=True)
class Read:
    """N sequences whose pages are read in one call, each with L query tokens; N or L is 1.

    `rows` are their queries among the step's T rows. `mask_N1LS` is added to the scores; None means
    causal from the first key on.
    """

    rows: slice | Tensor
    num_queries: int
    num_keys: int
    pages_NP: Tensor
    mask_N1LS: Tensor | None


class TorchAttention:
    """Reads all sequences with one new token together, padded to the longest, and others one by one.

    Padding repeats a sequence's own last page, and a page is zeroed when its sequence begins it: so
    all that lies under the mask is finite, and NaNs of one sequence reach no other.
    """

    def __init__(self, config: ModelConfig, pages: KvPages) -> None:
        self._config = config
        self._pages = pages

    def begin(self, batch: Batch) -> "TorchAttentionStep":
        """Lays `batch` out; zeroes the pages that sequences begin and leave partly empty."""
        self._clear_begun_pages(batch)
        windows = [self._config.window_tokens(layer) for layer in range(self._config.num_layers)]
        reads = {window: self._reads(batch, window) for window in dict.fromkeys(windows)}
        rows_T = self._pages.rows(batch.kv_slots_T)
        return TorchAttentionStep(self._pages, rows_T, [reads[window] for window in windows])

    def _clear_begun_pages(self, batch: Batch) -> None:
        page_tokens = self._pages.page_tokens
        begun: list[tuple[int, int]] = []
        for index, context in enumerate(batch.context_lens):
            num_in_last = context % page_tokens
            num_queries = batch.query_starts[index + 1] - batch.query_starts[index]
            if 0 < num_in_last <= num_queries:
                begun.append((index, context // page_tokens))
        if begun:
            sequences, columns = torch.tensor(begun, device=batch.page_table_NP.device).unbind(1)
            self._pages.clear(batch.page_table_NP[sequences, columns])

    def _reads(self, batch: Batch, window: int | None) -> tuple[Read, ...]:
        starts = batch.query_starts
        lengths = [end - start for start, end in pairwise(starts)]
        singles = [index for index, length in enumerate(lengths) if length == 1]
        reads = [self._read(batch, [index], window) for index, length in enumerate(lengths) if length > 1]
        if singles:
            reads.append(self._read(batch, singles, window))
        return tuple(reads)

    def _read(self, batch: Batch, sequences: Sequence[int], window: int | None) -> Read:
        device, page_tokens = batch.page_table_NP.device, self._pages.page_tokens
        num_queries = batch.query_starts[sequences[0] + 1] - batch.query_starts[sequences[0]]
        contexts = [batch.context_lens[index] for index in sequences]
        firsts = [_first_page(context - num_queries, window, page_tokens) for context in contexts]
        lasts = [(context - 1) // page_tokens for context in contexts]
        num_pages = max(last - first for first, last in zip(firsts, lasts, strict=True)) + 1
        firsts_N1, lasts_N1, contexts_N1 = torch.tensor([firsts, lasts, contexts], device=device).unsqueeze(2)
        table_NP = batch.page_table_NP
        if len(sequences) < len(batch.context_lens):
            table_NP = table_NP[torch.tensor(sequences, device=device)]
        columns_NP = (firsts_N1 + torch.arange(num_pages, device=device)).minimum(lasts_N1)
        pages_NP = table_NP.gather(1, columns_NP)
        rows = _query_rows(batch, sequences)
        if window is None and contexts[0] == num_queries > 1:
            return Read(rows, num_queries, num_queries, pages_NP, None)
        num_keys = num_pages * page_tokens
        keys_NS = firsts_N1 * page_tokens + torch.arange(num_keys, device=device)
        queries_NL = contexts_N1 - num_queries + torch.arange(num_queries, device=device)
        mask_N1LS = _mask(queries_NL, keys_NS, window, self._pages.dtype)
        return Read(rows, num_queries, num_keys, pages_NP, mask_N1LS)


class TorchAttentionStep:
    """TorchAttention of one batch: what each layer reads is laid out."""

    def __init__(self, pages: KvPages, rows_T: Tensor, reads: Sequence[tuple[Read, ...]]) -> None:
        self._pages = pages
        self._rows_T = rows_T
        self._reads = reads

    def attend(self, layer: int, query_TQD: Tensor, key_TGD: Tensor, value_TGD: Tensor) -> Tensor:
        """As AttentionStep.attend, of heads that are normed and turned already."""
        self._pages.write(layer, self._rows_T, key_TGD, value_TGD)
        reads = self._reads[layer]
        if len(reads) == 1:
            return self._attend(layer, query_TQD, reads[0])
        out_TX = query_TQD.new_empty(query_TQD.shape[0], query_TQD.shape[1] * query_TQD.shape[2])
        for read in reads:
            out_TX[read.rows] = self._attend(layer, query_TQD[read.rows], read)
        return out_TX

    def _attend(self, layer: int, query_TQD: Tensor, read: Read) -> Tensor:
        """Outputs of one read's queries; query heads of one KV head are folded, so keys are not repeated."""
        num_tokens, num_heads, head_dim = query_TQD.shape
        key_NSGD, value_NSGD = self._pages.read(layer, read.pages_NP)
        num_kv_heads = key_NSGD.shape[2]
        folded = query_TQD.view(num_tokens, num_kv_heads, -1, head_dim)
        if read.num_queries == 1:
            out_NGRD = F.scaled_dot_product_attention(
                folded, key_NSGD.transpose(1, 2), value_NSGD.transpose(1, 2), attn_mask=read.mask_N1LS
            )
            return out_NGRD.reshape(num_tokens, num_heads * head_dim)
        shape = (num_kv_heads, folded.shape[2], read.num_keys, head_dim)
        key_GRSD = key_NSGD[0, : read.num_keys].transpose(0, 1).unsqueeze(1).expand(shape)
        value_GRSD = value_NSGD[0, : read.num_keys].transpose(0, 1).unsqueeze(1).expand(shape)
        out_GRLD = F.scaled_dot_product_attention(
            folded.permute(1, 2, 0, 3),
            key_GRSD,
            value_GRSD,
            attn_mask=read.mask_N1LS,
            is_causal=read.mask_N1LS is None,
        )
        return out_GRLD.permute(2, 0, 1, 3).reshape(num_tokens, num_heads * head_dim)


def _first_page(first_query: int, window: int | None, page_tokens: int) -> int:
    """The page of the oldest key that a query at position `first_query` sees."""
    return 0 if window is None else max(0, first_query - window + 1) // page_tokens


def _query_rows(batch: Batch, sequences: Sequence[int]) -> slice | Tensor:
    """Rows of the queries of `sequences`: one sequence, or several of one row each."""
    first = sequences[0]
    if len(sequences) == 1:
        return slice(batch.query_starts[first], batch.query_starts[first + 1])
    if len(sequences) == len(batch.context_lens):
        return slice(None)
    return torch.tensor([batch.query_starts[n] for n in sequences], device=batch.page_table_NP.device)


def _mask(queries_NL: Tensor, keys_NS: Tensor, window: int | None, dtype: torch.dtype) -> Tensor:
    """[N, 1, L, S]: 0 where the query at that position sees the key, else -inf."""
    ages_NLS = queries_NL.unsqueeze(2) - keys_NS.unsqueeze(1)
    hidden_NLS = ages_NLS < 0
    if window is not None:
        hidden_NLS |= ages_NLS >= window
    mask_NLS = torch.zeros(hidden_NLS.shape, dtype=dtype, device=hidden_NLS.device)
    return mask_NLS.masked_fill_(hidden_NLS, float("-inf")).unsqueeze(1)
