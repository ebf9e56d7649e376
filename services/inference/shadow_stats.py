"""How copies of requests on shadow versions went. Must not decide anything."""

from dataclasses import dataclass


@dataclass(slots=True)
class ShadowStats:
    """Counts of copies; the fields are the wire's."""

    started: int = 0
    finished: int = 0
    failed: int = 0
    dropped: int = 0
    compared_tokens: int = 0
    diverged: int = 0
    primary_s: float = 0.0
    shadow_s: float = 0.0
