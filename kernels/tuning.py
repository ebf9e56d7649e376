"""Sizes that trade speed: changing one changes no result beyond the order of a sum.

Must not know tensors.
"""

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


ATTENTION_TILE_KEYS = 64
"""Keys that one step of an attention program reads."""

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
