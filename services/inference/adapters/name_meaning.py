"""What one name means, and which of the store's changes concern it. Must not know the wire or torch."""

from collections.abc import Callable
from dataclasses import dataclass

from services.inference.adapter_name import AdapterReference, parse_reference
from services.inference.request import ResolvedAdapter
from services.inference.resolution import ShadowTarget

LATEST, PRODUCTION = "latest", "production"


@dataclass(slots=True)
class Meaning:
    """What one name means. Of a split, the adapters that some request has fallen to so far."""

    targets: tuple[tuple[int, int], ...]
    shadow: ShadowTarget | None
    adapters: dict[int, ResolvedAdapter]

    @property
    def versions(self) -> set[int]:
        """Every version that requests by this name may run on."""
        return {version for version, _ in self.targets} | set(self.adapters)


def _all(reference: AdapterReference, meaning: Meaning, changed: AdapterReference) -> bool:
    return True


def _by_alias(reference: AdapterReference, meaning: Meaning, changed: AdapterReference) -> bool:
    is_bare = reference.version is None and reference.alias is None
    return reference.alias == changed.alias or (is_bare and changed.alias == PRODUCTION)


def _by_version(reference: AdapterReference, meaning: Meaning, changed: AdapterReference) -> bool:
    if reference.version is None and reference.alias in (None, LATEST):
        return True
    shadow = None if meaning.shadow is None else parse_reference(meaning.shadow.version_name)
    return changed.version in meaning.versions or changed == shadow


# By kind of change: whether one to `changed` may alter what `reference` means.
CONCERNS: dict[str, Callable[[AdapterReference, Meaning, AdapterReference], bool]] = {
    "ADAPTER_DELETED": _all,
    "ALIAS_CHANGED": _by_alias,
    "VERSION_ACTIVE": _by_version,
    "VERSION_DISABLED": _by_version,
    "VERSION_DELETED": _by_version,
}
