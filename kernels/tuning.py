"""Sizes that trade speed: changing one changes no result beyond the order of a sum.

Must not know tensors.
"""

from dataclasses import dataclass

MAX_BAGGED_ROWS = 16
"""TorchSgmv multiplies runs of more rows as matrices: their arithmetic is worth it."""

MAX_BAGGED_GAP = 16
"""Rows of others that are summed as nothing, to serve the rows before and after in one call."""

MAX_COPIED_BYTES = 256 << 20
"""Weights that TorchSgmv may hold as copies beside the pool."""

MAX_PLANS = 4
"""Compositions of the batch whose indices TorchSgmv keeps."""

SHRINK_TILE_K = 128
"""In features that one step of a shrink program reads."""

EXPAND_TILE_N = 128
"""Columns of y that one expand program writes."""

_EXPAND_PROGRAMS = 4096
_DECODE_TILE_ROWS = 8
_PREFILL_TILE_ROWS = 64
_PREFILL_MEAN_ROWS = 32
_MIN_SPLIT_FEATURES = 1024
_MAX_SPLITS = 8

MAX_PADDED_DECODE_ROWS = 512
"""Rows of a step, padding included, up to which `padded_row_tile` takes it for one that mostly decodes."""


def row_tile(num_rows: int, num_segments: int) -> int:
    """Rows of one adapter that one Triton program handles."""
    is_prefill = num_rows >= _PREFILL_MEAN_ROWS * num_segments
    return _PREFILL_TILE_ROWS if is_prefill else _DECODE_TILE_ROWS


def padded_row_tile(num_rows: int) -> int:
    """The same for a step that is padded to `num_rows`, whatever they turn out to be.

    In a step with room for little more than the sequences that decode, most tiles are single rows, of which
    small tiles waste less. In a larger one most rows are of chunks, and tiles of 64 read
    weights a quarter as often.
    """
    return _PREFILL_TILE_ROWS if num_rows > MAX_PADDED_DECODE_ROWS else _DECODE_TILE_ROWS


def num_shrink_splits(in_features: int) -> int:
    """Programs that share one sum over `in_features`.

    By width alone, so that a row is summed in the same order whoever else is in the batch.
    """
    return min(_MAX_SPLITS, max(1, in_features // _MIN_SPLIT_FEATURES))


def num_expand_programs(num_tiles: int, num_columns: int) -> int:
    """Programs that take turns in a row tile's column tiles.

    A head has a thousand of them, and hardly an adapter has weights for it: as many programs that end at
    once for every row would take longer than the rest of its kernel.
    """
    return max(1, min(num_columns, _EXPAND_PROGRAMS // num_tiles))


ATTENTION_TILE_KEYS = 64
"""Keys that one step of an attention program reads."""

DECODE_ATTENTION_STAGES = 2
"""Steps that a decode attention program has under way at once; with three, fewer programs fit."""

PREFILL_TILE_ROWS = 64
"""Query rows, tokens times query heads of a KV head, of one prefill attention program."""

_SPLIT_PROGRAMS = 1024
_MAX_KEY_SPLITS = 32
_MIN_KEY_SPLITS = 2


def num_key_splits(num_programs: int) -> int:
    """Programs that share one sequence's keys and one KV head at decode; a power of two.

    `num_programs` is sequences times KV heads. Never 1: one long context among many short ones would
    hold up the step.
    """
    splits = _MAX_KEY_SPLITS
    while splits > _MIN_KEY_SPLITS and splits * num_programs > _SPLIT_PROGRAMS:
        splits //= 2
    return splits


@dataclass(frozen=True, slots=True)
class FusedTiles:
    """Sizes of the kernels that do LoRA arithmetic beside the pointwise work, for row tiles of one size.

    Where tiles are small a program takes all its elements at once: loads that wait for one another cost more
    than small programs do. What a row's sums depend on follows from widths and from the kind of step alone,
    never from the batch.
    """

    residual_columns: int
    """Columns of one program of residual_expand, and of one sum of squares."""
    residual_warps: int
    shrink_split: int
    """In features of one program of norm_shrink, and of one split, up to `shrink_wide` in features."""
    shrink_warps: int
    shrink_wide: int
    shrink_wide_split: int
    """The same of wider inputs: few splits, since whoever reads h adds them up."""
    shrink_wide_warps: int
    shrink_columns: int
    """In features that a tile of more rows than one takes at once; a whole split where that is less."""
    heads: int
    """Heads of one program of rope_expand."""
    rope_warps: int
    silu_columns: int
    """Features of one program of silu_expand."""
    silu_warps: int
    row_columns_a_warp: int
    """Columns of a row alone that a warp expands at once. A thread reads 16 bytes: with 256 columns of 16
    bits it has a column's ranks all to itself, and sums them without asking another; with fewer it needs
    fewer registers, which rows that are not alone also pay for."""
    max_registers: int | None = None
    """Of a thread in these kernels, so that a multiprocessor has more programs at once; None: no bound."""
    combine_columns: int = 512
    """In features of one program of combine_shrink, cut to whole heads."""
    combine_warps: int = 4

    def row_parts(self, columns: int, num_warps: int) -> int:
        """Tiles of `columns` that a program of so many warps takes together for a row that is alone."""
        return max(1, self.row_columns_a_warp * num_warps // columns)

    def shrink(self, in_features: int) -> tuple[int, int]:
        """(features of a split, warps) of a program that shrinks so wide an input."""
        if in_features <= self.shrink_wide:
            return self.shrink_split, self.shrink_warps
        return self.shrink_wide_split, self.shrink_wide_warps


_FUSED_DECODE = FusedTiles(
    residual_columns=256,
    residual_warps=4,
    shrink_split=512,
    shrink_warps=8,
    shrink_wide=8192,
    shrink_wide_split=1024,
    shrink_wide_warps=8,
    shrink_columns=1024,
    heads=2,
    rope_warps=4,
    silu_columns=256,
    silu_warps=4,
    row_columns_a_warp=256,
    max_registers=128,
)
_FUSED_PREFILL = FusedTiles(
    residual_columns=128,
    residual_warps=8,
    shrink_split=512,
    shrink_warps=4,
    shrink_wide=8192,
    shrink_wide_split=2048,
    shrink_wide_warps=8,
    shrink_columns=128,
    heads=1,
    rope_warps=8,
    silu_columns=64,
    silu_warps=8,
    row_columns_a_warp=64,
)

FUSED_PROGRAMS_A_SM = 16
"""Programs that a fused kernel launches a multiprocessor at most; they take turns in its items."""

MAX_COMBINE_SHRINK_ROWS = 64
"""Rows of a decode step up to which the kernel that combines shares of attention also shrinks: it reads A
once a row. Above, a launch of its own reads A once a tile."""


def fused_tiles(tile_rows: int) -> FusedTiles:
    """For row tiles of `tile_rows` rows."""
    return _FUSED_PREFILL if tile_rows > _DECODE_TILE_ROWS else _FUSED_DECODE
