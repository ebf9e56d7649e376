"""The requests of one step as tensors, rows of one adapter side by side.

Legend: T tokens of the step, N sequences, P pages of the longest sequence, M rows that need logits.
Must not know requests, scheduling policy or models.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.host_copies import to_device
from kernels.segments import Segments, make_segments


@dataclass(frozen=True, slots=True)
class Slice:
    """Consecutive tokens of one sequence, the first at position `start`, and its pages in token order.

    A token id below 0 stands for a token that the step before sampled: see `row_of_last`.
    """

    token_ids: Sequence[int]
    start: int
    pages: Sequence[int]
    adapter_index: int
    wants_logits: bool


@dataclass(frozen=True, slots=True)
class Batch:
    """What one forward pass reads, all on the model's device.

    Sequence n owns rows query_starts[n]..query_starts[n+1]-1; after the step it has
    context_lens[n] tokens in the pages page_table_NP[n]. `kv_slots_T` is page * page_tokens +
    offset, where each row's key and value go. `sample_rows_M` are the rows to compute logits for.
    """

    token_ids_T: Tensor
    positions_T: Tensor
    kv_slots_T: Tensor
    query_starts: tuple[int, ...]
    context_lens: tuple[int, ...]
    page_table_NP: Tensor
    sample_rows_M: Tensor
    token_segments: Segments
    sample_segments: Segments

    @property
    def num_tokens(self) -> int:
        """Rows of the step."""
        return self.query_starts[-1]


def make_batch(slices: Sequence[Slice], page_tokens: int, device: torch.device) -> Batch:
    """The batch of `slices`, in their order: put slices of one adapter side by side."""
    token_ids: list[int] = []
    positions: list[int] = []
    kv_slots: list[int] = []
    query_starts, context_lens, sample_rows = [0], [], []
    for part in slices:
        stop = part.start + len(part.token_ids)
        token_ids += part.token_ids
        positions += range(part.start, stop)
        kv_slots += (
            part.pages[position // page_tokens] * page_tokens + position % page_tokens
            for position in range(part.start, stop)
        )
        query_starts.append(len(token_ids))
        context_lens.append(stop)
        if part.wants_logits:
            sample_rows.append(len(token_ids) - 1)
    num_pages = [-(-length // page_tokens) for length in context_lens]
    widest = max(num_pages)
    page_table = [
        [*part.pages[:used], *[0] * (widest - used)] for part, used in zip(slices, num_pages, strict=True)
    ]
    return Batch(
        token_ids_T=to_device(token_ids, torch.int64, device),
        positions_T=to_device(positions, torch.int64, device),
        kv_slots_T=to_device(kv_slots, torch.int64, device),
        query_starts=tuple(query_starts),
        context_lens=tuple(context_lens),
        page_table_NP=to_device(page_table, torch.int64, device),
        sample_rows_M=to_device(sample_rows, torch.int64, device),
        token_segments=make_segments([(p.adapter_index, len(p.token_ids)) for p in slices], device),
        sample_segments=make_segments([(p.adapter_index, 1) for p in slices if p.wants_logits], device),
    )
