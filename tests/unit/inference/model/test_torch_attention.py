import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from services.inference.batch import Slice, make_batch
from services.inference.model.config import ModelConfig
from services.inference.model.kv_pages import KvPages, kv_page_elements
from services.inference.model.torch_attention import TorchAttention
from tests.unit.inference.model.tiny_checkpoint import CPU, PAGE_TOKENS, write_checkpoint

NUM_PAGES = 64
LENGTH = 27


def _reference(query_QD: Tensor, keys_SGD: Tensor, values_SGD: Tensor, window: int | None) -> Tensor:
    """One row's attention in float64, key by key; the row is the last position of keys_SGD."""
    num_heads, head_dim = query_QD.shape
    oldest = 0 if window is None else max(0, len(keys_SGD) - window)
    outputs = []
    for head in range(num_heads):
        group = head * keys_SGD.shape[1] // num_heads
        keys, values = keys_SGD[oldest:, group].double(), values_SGD[oldest:, group].double()
        weights = (keys @ query_QD[head].double() / head_dim**0.5).softmax(0)
        outputs.append(weights @ values)
    return torch.cat(outputs).float()


class _Sequences:
    """Random queries, keys and values of a few sequences, and how far each is written."""

    def __init__(self, config: ModelConfig, count: int) -> None:
        torch.manual_seed(5)
        shape = (count, LENGTH)
        self.query = torch.randn(*shape, config.num_heads, config.head_dim)
        self.key = torch.randn(*shape, config.num_kv_heads, config.head_dim)
        self.value = torch.randn(*shape, config.num_kv_heads, config.head_dim)
        self.done = [0] * count
        order = random.Random(1).sample(range(NUM_PAGES), NUM_PAGES)
        width = -(-LENGTH // PAGE_TOKENS)
        self.pages = [order[n * width : (n + 1) * width] for n in range(count)]

    def slice(self, index: int, num_tokens: int) -> Slice:
        start = self.done[index]
        return Slice(
            token_ids=[0] * num_tokens,
            start=start,
            pages=self.pages[index],
            adapter_index=-1,
            wants_logits=False,
        )


@pytest.mark.parametrize("window", [None, 1, 6, 100])
@pytest.mark.parametrize("first_window_layer", [0, 1])
def test_rows_match_a_row_by_row_reference(
    tmp_path: Path, window: int | None, first_window_layer: int
) -> None:
    config = replace(
        write_checkpoint(tmp_path), sliding_window_tokens=window, first_window_layer=first_window_layer
    )
    pool_E = torch.full((NUM_PAGES * kv_page_elements(config, PAGE_TOKENS),), float("nan"))
    attention = TorchAttention(config, KvPages(pool_E, config, PAGE_TOKENS))
    sequences = _Sequences(config, 5)
    for sizes in ([9, 1, 4, 0, 1], [1, 1, 1, 12, 1], [3, 8, 0, 1, 1], [1, 1, 1, 1, 1], [13, 1, 5, 1, 16]):
        chunks = [(index, size) for index, size in enumerate(sizes) if size]
        _check_step(attention, config, sequences, chunks)


def _check_step(
    attention: TorchAttention, config: ModelConfig, sequences: _Sequences, chunks: list[tuple[int, int]]
) -> None:
    step = attention.begin(
        make_batch([sequences.slice(index, size) for index, size in chunks], PAGE_TOKENS, CPU)
    )
    spans = [(index, sequences.done[index], sequences.done[index] + size) for index, size in chunks]
    rows = [(index, position) for index, start, stop in spans for position in range(start, stop)]
    query_TQD, key_TGD, value_TGD = (
        torch.cat([values[index, start:stop] for index, start, stop in spans])
        for values in (sequences.query, sequences.key, sequences.value)
    )
    for layer in range(config.num_layers):
        out_TX = step.attend(layer, query_TQD, key_TGD, value_TGD)
        for out_X, (index, position) in zip(out_TX, rows, strict=True):
            expected = _reference(
                sequences.query[index, position],
                sequences.key[index, : position + 1],
                sequences.value[index, : position + 1],
                config.window_tokens(layer),
            )
            # Float32 sums of at most 27 terms of order 1.
            torch.testing.assert_close(out_X, expected, rtol=0, atol=1e-5)
    for index, _, stop in spans:
        sequences.done[index] = stop
