"""An alias: a movable name for one version, or for several that share its traffic; and its every move."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from services.adapter_store.domain.fields import check_range
from services.common.errors import invalid_field

MIN_TARGETS, MAX_TARGETS = 2, 16
MAX_WEIGHT = 1_000_000
MAX_VERSION = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class TrafficTarget:
    """One version of a split; `weight` is relative to the others'."""

    version: int
    weight: int


@dataclass(frozen=True, slots=True)
class Shadow:
    """A sampled copy of the requests, a share `sample_rate` of them, runs on `version` as well."""

    version: int
    sample_rate: float


@dataclass(frozen=True, slots=True)
class Aim:
    """What an alias points at. `targets` is empty unless it splits traffic; then `version` is the first."""

    version: int
    targets: tuple[TrafficTarget, ...] = ()
    shadow: Shadow | None = None

    @property
    def versions(self) -> tuple[int, ...]:
        """Every version that requests, or their copies, may run on."""
        answering = tuple(target.version for target in self.targets) or (self.version,)
        return answering if self.shadow is None else (*answering, self.shadow.version)

    def __str__(self) -> str:
        text = ", ".join(f"{t.version}={t.weight}" for t in self.targets) or str(self.version)
        return text if self.shadow is None else f"{text} with shadow {self.shadow.version}"


@dataclass(frozen=True, slots=True)
class Alias:
    """`revision` goes up by one with every move, also over a deletion: it never means two things."""

    name: str
    aim: Aim
    revision: int
    update_time: datetime

    @property
    def version(self) -> int:
        """What it points at; of several targets the first."""
        return self.aim.version


@dataclass(frozen=True, slots=True)
class AliasMove:
    """One move: from_version 0 is the alias's creation; `to` None its deletion."""

    id: int
    from_version: int
    to: Aim | None
    revision: int
    time: datetime
    moved_by: str

    @property
    def to_version(self) -> int:
        """What it points at since; of several targets the first, 0 after a deletion."""
        return 0 if self.to is None else self.to.version


def check_aim(version: int, targets: Sequence[TrafficTarget], shadow: Shadow | None) -> Aim:
    """What a caller asks an alias to point at. Raises INVALID_FIELD."""
    if targets and version:
        raise invalid_field("version", f"is {version} beside targets: give the one or the others")
    if targets:
        _check_targets(targets)
    elif version < 1:
        raise invalid_field("version", f"is {version}: versions count from 1")
    aim = Aim(targets[0].version if targets else version, tuple(targets), shadow)
    if shadow is not None:
        _check_shadow(aim, shadow)
    return aim


def _check_targets(targets: Sequence[TrafficTarget]) -> None:
    if not MIN_TARGETS <= len(targets) <= MAX_TARGETS:
        raise invalid_field(
            "targets",
            f"has {len(targets)}: a split has {MIN_TARGETS} to {MAX_TARGETS}; for one version give `version`",
        )
    for index, target in enumerate(targets):
        check_range(target.version, f"targets[{index}].version", low=1, high=MAX_VERSION)
        check_range(target.weight, f"targets[{index}].weight", low=1, high=MAX_WEIGHT)
    versions = [target.version for target in targets]
    twice = {version for version in versions if versions.count(version) > 1}
    if twice:
        raise invalid_field("targets", f"has version {min(twice)} twice: give each once, with its weight")


def _check_shadow(aim: Aim, shadow: Shadow) -> None:
    check_range(shadow.version, "shadow.version", low=1, high=MAX_VERSION)
    if not (math.isfinite(shadow.sample_rate) and 0 < shadow.sample_rate <= 1):
        raise invalid_field(
            "shadow.sample_rate", f"is {shadow.sample_rate:g}: give a share above 0 and at most 1"
        )
    if shadow.version in aim.versions[:-1]:
        raise invalid_field(
            "shadow.version", f"{shadow.version} answers requests already: a shadow is another version"
        )
