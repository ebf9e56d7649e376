"""The requests of one step as tensors, rows of one adapter side by side.

Legend: T tokens of the step, N sequences, P pages of the longest sequence, M rows that need logits.
Must not know requests, scheduling policy or models.
"""

from dataclasses import dataclass

from torch import Tensor

from kernels.segments import Segments


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
