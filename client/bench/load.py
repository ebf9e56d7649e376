"""What load to put on a server: how many requests, when, for which adapter, how long."""

from dataclasses import dataclass
from enum import StrEnum


class Loop(StrEnum):
    """Closed: so many streams at a time, always. Open: requests arrive whether or not others are done."""

    closed = "closed"
    open = "open"


class Popularity(StrEnum):
    """Which adapter a request asks for.

    distinct: each in turn, so that any n neighbours differ. uniform: by chance. zipf: the k-th most popular
    with weight k**-skew. power: int(power(skew) * n), as S-LoRA's traces (1 is uniform, 0.1 strongly skewed).
    """

    distinct = "distinct"
    uniform = "uniform"
    zipf = "zipf"
    power = "power"


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """One workload; the same one is put on for every row of the table.

    `num_requests` and `concurrency` are a closed loop's; `rate_per_s`, `duration_s` and `cv` an open loop's
    (gaps are gamma distributed with this coefficient of variation; 1 is a Poisson process). Token ranges are
    [low, high). Raises ValueError naming the field.
    """

    loop: Loop = Loop.closed
    num_requests: int = 64
    concurrency: int = 16
    rate_per_s: float = 4.0
    duration_s: float = 10.0
    cv: float = 1.0
    popularity: Popularity = Popularity.distinct
    skew: float = 1.0
    prompt_tokens: tuple[int, int] = (16, 17)
    output_tokens: tuple[int, int] = (32, 33)
    seed: int = 42

    def __post_init__(self) -> None:
        for name in ("num_requests", "concurrency", "rate_per_s", "duration_s", "cv", "skew"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name}: must be above 0, not {getattr(self, name)}")
        for name in ("prompt_tokens", "output_tokens"):
            low, high = getattr(self, name)
            if not 1 <= low < high:
                raise ValueError(f"{name}: must be 1 <= low < high, not {low}:{high}")
        if self.size < 1:
            raise ValueError("rate_per_s times duration_s: must be at least one request")

    @property
    def size(self) -> int:
        """Requests of one run."""
        if self.loop is Loop.closed:
            return self.num_requests
        return int(self.rate_per_s * self.duration_s)


def parse_range(text: str) -> tuple[int, int]:
    """`32` -> (32, 33), `8:512` -> (8, 512); low inclusive, high exclusive. Raises ValueError."""
    low, colon, high = text.partition(":")
    try:
        return (int(low), int(high)) if colon else (int(low), int(low) + 1)
    except ValueError:
        raise ValueError(f"{text!r} is no range: give N, or LOW:HIGH with HIGH exclusive") from None
