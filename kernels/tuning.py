"""Sizes that trade speed: changing one changes no result beyond the order of a sum.

Must not know tensors.
"""

MAX_BUNDLED_ROWS = 16
"""Most rows that TorchSgmv multiplies with the weights of several adapters at once."""

MAX_BUNDLED_ADAPTERS = 8
"""Most adapters of such a bundle: the wasted arithmetic grows with it, the number of calls shrinks."""

MAX_COPIED_BYTES = 512 << 20
"""Weights that TorchSgmv may hold as copies beside the pool."""

MAX_COMPOSITIONS = 32
"""Most sets of adapters whose weights TorchSgmv keeps side by side."""

MAX_COMPOSITION_EXCESS = 1.5
"""How many times the bytes it needs a bundle may read, to be served without new copies."""

SHRINK_TILE_K = 128
"""In features that one step of a shrink program reads."""

EXPAND_TILE_N = 128
"""Columns of y that one expand program writes."""

_DECODE_TILE_ROWS = 16
_PREFILL_TILE_ROWS = 64
_PREFILL_MEAN_ROWS = 32
_MIN_SPLIT_FEATURES = 1024
_MAX_SPLITS = 8


def row_tile(num_rows: int, num_segments: int) -> int:
    """Rows of one adapter that one Triton program handles."""
    is_prefill = num_rows >= _PREFILL_MEAN_ROWS * num_segments
    return _PREFILL_TILE_ROWS if is_prefill else _DECODE_TILE_ROWS


def num_shrink_splits(in_features: int) -> int:
    """Programs that share one sum over `in_features`.

    By width alone, so that a row is summed in the same order whoever else is in the batch.
    """
    return min(_MAX_SPLITS, max(1, in_features // _MIN_SPLIT_FEATURES))
