"""Which target of a split a key falls to, and which keys are sampled: stable hashes, no state.

Both services decide by these, so that an answer from the store and one from inference's memory agree.

Weighted rendezvous hashing: each target draws u in (0, 1) from a hash of (salt, key, target), and the
least of -ln(u) / weight wins. A target wins a share weight / sum(weights) of the keys, and since no draw
depends on another target, a change of weights moves only the keys that the change gives to or takes from
a target: keys never move between two targets whose weights stayed. The order of targets does not matter.
Thaler & Ravishankar 1998; weights: Schindelhauer & Schomaker 2005.
"""

import hashlib
import math
from collections.abc import Iterable

_RANGE = float(1 << 64)


def choose_target(salt: str, key: str, targets: Iterable[tuple[int, int]]) -> int:
    """The version that `key` falls to, of one or more (version, weight).

    `salt` names the adapter: the same key falls independently in each.
    """
    _, version = min(
        (-math.log(_draw("split", salt, key, version)) / weight, version) for version, weight in targets
    )
    return version


def is_sampled(salt: str, key: str, sample_rate: float) -> bool:
    """Whether `key` is in the sampled share, independently of the target it falls to.

    A key that is in stays in when the rate goes up.
    """
    return _draw("sample", salt, key, 0) <= sample_rate


def _draw(purpose: str, salt: str, key: str, target: int) -> float:
    """Uniform in (0, 1], from the hash of the arguments alone."""
    # Lengths first: no two lists of arguments spell the same text.
    text = f"{purpose} {len(salt)} {salt} {target} {key}".encode("utf-8", "surrogatepass")
    number = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")
    return (number + 1) / _RANGE
