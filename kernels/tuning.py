"""Sizes that trade speed, each a measured choice: changing one never changes a result.

Must not know tensors.
"""

MAX_BUNDLED_ROWS = 16
"""Runs of more rows than this are multiplied alone: their arithmetic outweighs the calls."""

MAX_BUNDLE_PADDING = 4
"""Most times that a run's rows may be padded to join a bundle."""

MAX_COPIED_BYTES = 512 << 20
"""Weights that TorchSgmv may hold as copies beside the pool."""
