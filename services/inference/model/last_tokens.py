"""The tokens that the last step sampled, in device memory that never moves, for the next step to read.

So the next step can be launched before the host knows them: where it has no token id, it writes the row of
the step before, as `row_of_last` encodes it. Must not know requests or how tokens are chosen.

Legend: M rows that the last step sampled, T tokens of a step.
"""

import torch
from torch import Tensor


def row_of_last(row: int) -> int:
    """What stands for the token of the last step's sampled row `row`, in place of a token id: below 0."""
    return -1 - row


class LastTokens:
    """Room for the tokens of `max_rows` rows; read and written in the order of the stream."""

    def __init__(self, max_rows: int, device: torch.device) -> None:
        self._ids_M = torch.zeros(max_rows, dtype=torch.int32, device=device)

    @property
    def device(self) -> torch.device:
        """Where they are."""
        return self._ids_M.device

    def write_(self, token_ids_M: Tensor) -> None:
        """Keeps one token a row, as soon as the device has chosen them."""
        self._ids_M[: token_ids_M.shape[0]].copy_(token_ids_M)

    def pick_(self, token_ids_T: Tensor) -> None:
        """Mutates what `row_of_last` made into the tokens; int32 or int64, contiguous, on this device."""
        if token_ids_T.is_cuda:
            from kernels.pick_tokens import pick_tokens_

            pick_tokens_(token_ids_T, self._ids_M)
        else:
            rows_T = (-1 - token_ids_T).clamp_(min=0)
            picked_T = self._ids_M[rows_T].to(token_ids_T.dtype)
            token_ids_T.copy_(torch.where(token_ids_T < 0, picked_T, token_ids_T))
