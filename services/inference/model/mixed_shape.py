"""The sizes that a step with chunks is padded to, and how much of everything such a step can hold.

Must not know buffers or graphs.
"""

from dataclasses import dataclass

from kernels import tuning
from kernels.row_tiles import max_row_tiles

MAX_TOKENS = 2048
"""A larger step computes for longer than its launches take, so a graph would gain it nothing."""


@dataclass(frozen=True, slots=True)
class MixedShape:
    """Room for `num_tokens` rows of `max_sequences` sequences; tiles are what these need at worst."""

    num_tokens: int
    max_sequences: int
    row_tile_rows: int
    query_tile_rows: int

    @property
    def num_row_tiles(self) -> int:
        """Tiles of rows of one adapter."""
        return max_row_tiles(self.num_tokens, self.max_sequences, self.row_tile_rows)

    @property
    def num_query_tiles(self) -> int:
        """Tiles of rows of one sequence."""
        return max_row_tiles(self.num_tokens, self.max_sequences, self.query_tile_rows)


def mixed_shape(num_tokens: int, max_sequences: int, query_tile_rows: int) -> MixedShape:
    """For steps of `num_tokens` rows, of at most `max_sequences` sequences."""
    tile_rows = tuning.padded_row_tile(num_tokens)
    return MixedShape(num_tokens, min(num_tokens, max_sequences), tile_rows, query_tile_rows)


def token_sizes(max_tokens: int) -> tuple[int, ...]:
    """Numbers of tokens that steps are padded to, the last for `max_tokens` or MAX_TOKENS.

    Up to 256 rows a step reads weights for about as long as it computes, so padding is nearly free;
    above, matmuls are cut at 128 rows or 256 whatever the size.
    """
    last = min(max_tokens, MAX_TOKENS)
    sizes = (64, 128, *range(256, 1024, 128), *range(1024, MAX_TOKENS, 256))
    return (*(size for size in sizes if size < last), last)
