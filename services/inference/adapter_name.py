"""The forms in which a request may name an adapter.

Must not know what exists: the store resolves names.
"""

import re
from dataclasses import dataclass

from services.common.errors import invalid_field

_SEGMENT = r"[a-z0-9][a-z0-9._-]{0,62}"
_NUMBER = r"[1-9][0-9]{0,17}"
_ALIAS = rf"(?![0-9]+$){_SEGMENT}"
_SHORT = rf"{_SEGMENT}/{_SEGMENT}(?:@(?:{_NUMBER}|{_ALIAS}))?"
_FULL = rf"tenants/{_SEGMENT}/adapters/{_SEGMENT}(?:/versions/{_NUMBER}|/aliases/{_ALIAS})?"
_NAME = re.compile(rf"(?:{_FULL}|{_SHORT})")
_FORMS = (
    re.compile(
        rf"tenants/({_SEGMENT})/adapters/({_SEGMENT})(?:/(?:versions/({_NUMBER})|aliases/({_ALIAS})))?"
    ),
    re.compile(rf"({_SEGMENT})/({_SEGMENT})(?:@(?:({_NUMBER})|({_ALIAS})))?"),
)
_SHORT_VERSION = re.compile(rf"({_SEGMENT})/({_SEGMENT})@({_NUMBER})")


@dataclass(frozen=True, slots=True)
class AdapterReference:
    """A name whatever its form: the adapter's full name, and the version or alias of it, if any."""

    adapter: str
    version: int | None = None
    alias: str | None = None


def parse_reference(name: str) -> AdapterReference | None:
    """What `name` refers to; None if it can name no adapter, version or alias."""
    for form in _FORMS:
        if found := form.fullmatch(name):
            tenant, adapter, version, alias = found.groups()
            full = f"tenants/{tenant}/adapters/{adapter}"
            return AdapterReference(full, int(version) if version else None, alias)
    return None


def check_adapter_name(name: str) -> None:
    """Raises ServiceError INVALID_ARGUMENT naming `adapter` unless `name` can name one."""
    if not _NAME.fullmatch(name):
        shown = name if len(name) <= 64 else name[:64] + "..."
        raise invalid_field(
            "adapter",
            f"{shown!r} is no adapter name: give TENANT/ADAPTER, TENANT/ADAPTER@VERSION, "
            "TENANT/ADAPTER@ALIAS or tenants/TENANT/adapters/ADAPTER; "
            "a name is a-z or 0-9, then up to 62 of a-z 0-9 . _ -",
        )


def tenant_of(name: str) -> str:
    """The tenant in any form of adapter name, or of a version's."""
    return name.removeprefix("tenants/").partition("/")[0]


def full_version_name(name: str) -> str:
    """`acme/support@3` as `tenants/acme/adapters/support/versions/3`; any other name as it is."""
    found = _SHORT_VERSION.fullmatch(name)
    return "tenants/{}/adapters/{}/versions/{}".format(*found.groups()) if found else name
