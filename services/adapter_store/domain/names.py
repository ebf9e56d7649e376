"""Names of tenants, adapters, versions and aliases, and the one parser of every form of them.

Source: the name grammar at the top of protos/multilora/v1/adapter_store.proto.
"""

import re
from dataclasses import dataclass

from services.adapter_store.domain.fields import quoted
from services.common.caller import EVERY_TENANT
from services.common.errors import ServiceError, invalid_field

LATEST = "latest"
PRODUCTION = "production"
STAGING = "staging"

_SEGMENT = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
_NUMBER = re.compile(r"[1-9][0-9]{0,17}")
_FULL = re.compile(r"tenants/([^/]*)/adapters/([^/]*)(?:/(versions|aliases)/([^/]*))?")
_SHORT = re.compile(r"([^/@]*)/([^/@]*)(?:@([^/@]*))?")


@dataclass(frozen=True, slots=True, order=True)
class AdapterName:
    """One adapter of one tenant; `str` gives the full resource name."""

    tenant: str
    adapter: str

    def __str__(self) -> str:
        return f"tenants/{self.tenant}/adapters/{self.adapter}"

    def version(self, number: int) -> str:
        """The full resource name of this adapter's version `number`."""
        return f"{self}/versions/{number}"

    def alias(self, alias: str) -> str:
        """The full resource name of this adapter's alias."""
        return f"{self}/aliases/{alias}"


@dataclass(frozen=True, slots=True)
class Reference:
    """What a name in any form points at: an adapter, or one version or alias of it."""

    adapter: AdapterName
    version: int | None = None
    alias: str | None = None


def parse_reference(text: str, field: str) -> Reference:
    """Any form of name. Raises INVALID_FIELD naming `field`."""
    full = _FULL.fullmatch(text)
    if full:
        tenant, adapter, kind, last = full.groups()
        name = _adapter_name(tenant, adapter, text, field)
        if kind is None:
            return Reference(name)
        if kind == "versions":
            return Reference(name, version=_version_number(last, text, field))
        return Reference(name, alias=_alias(last, text, field))
    short = _SHORT.fullmatch(text)
    if short is None or text.startswith("tenants/"):
        raise _no_name(text, field)
    tenant, adapter, last = short.groups()
    name = _adapter_name(tenant, adapter, text, field)
    if last is None:
        return Reference(name)
    if last.isdecimal():
        return Reference(name, version=_version_number(last, text, field))
    return Reference(name, alias=_alias(last, text, field))


def parse_adapter(text: str, field: str) -> AdapterName:
    """A name that must be an adapter's. Raises INVALID_FIELD."""
    reference = parse_reference(text, field)
    if reference.version is not None or reference.alias is not None:
        raise invalid_field(field, f"{quoted(text)} names more than an adapter: give {reference.adapter}")
    return reference.adapter


def parse_version(text: str, field: str) -> tuple[AdapterName, int]:
    """A name that must be a version's. Raises INVALID_FIELD."""
    reference = parse_reference(text, field)
    if reference.version is None:
        raise invalid_field(field, f"{quoted(text)} names no version: give a name such as acme/support@3")
    return reference.adapter, reference.version


def parse_alias(text: str, field: str, default: str = "") -> tuple[AdapterName, str]:
    """A name that must be an alias's, and not `latest`. Raises INVALID_FIELD.

    With a `default`, an adapter's name means its alias of that name.
    """
    reference = parse_reference(text, field)
    alias = reference.alias
    if alias is None and reference.version is None and default:
        alias = default
    if alias is None:
        raise invalid_field(field, f"{quoted(text)} names no alias: give a name such as acme/support@staging")
    _check_settable(alias, field)
    return reference.adapter, alias


def check_alias(alias: str, field: str) -> str:
    """The bare name of an alias, if it can be one, and is not `latest`. Raises INVALID_FIELD."""
    _check_settable(_alias(alias, alias, field), field)
    return alias


def _check_settable(alias: str, field: str) -> None:
    if alias == LATEST:
        raise invalid_field(
            field,
            f"`{LATEST}` always means the highest active version and cannot be set: choose another alias",
        )


def parse_tenant(text: str, field: str) -> str:
    """`tenants/acme` to `acme`. Raises INVALID_FIELD."""
    head, _, tenant = text.partition("/")
    if head != "tenants" or not _SEGMENT.fullmatch(tenant):
        raise invalid_field(
            field, f"{quoted(text)} is no tenant: give tenants/NAME, for example tenants/acme"
        )
    return tenant


def parse_tenant_or_all(text: str, field: str) -> str:
    """As `parse_tenant`, but `tenants/*` is `*`. Raises INVALID_FIELD."""
    if text == f"tenants/{EVERY_TENANT}":
        return EVERY_TENANT
    return parse_tenant(text, field)


def _adapter_name(tenant: str, adapter: str, text: str, field: str) -> AdapterName:
    if not _SEGMENT.fullmatch(tenant) or not _SEGMENT.fullmatch(adapter):
        raise _no_name(text, field)
    return AdapterName(tenant, adapter)


def _version_number(number: str, text: str, field: str) -> int:
    if not _NUMBER.fullmatch(number):
        raise invalid_field(
            field, f"{quoted(text)}: a version is a whole number from 1, without leading zeros"
        )
    return int(number)


def _alias(alias: str, text: str, field: str) -> str:
    if not _SEGMENT.fullmatch(alias) or alias.isdecimal():
        raise invalid_field(
            field,
            f"{quoted(text)}: an alias is a-z or 0-9, then up to 62 of a-z 0-9 . _ -, and not a number",
        )
    return alias


def _no_name(text: str, field: str) -> ServiceError:
    return invalid_field(
        field,
        f"{quoted(text)} is no adapter name: give TENANT/ADAPTER, TENANT/ADAPTER@VERSION, "
        "TENANT/ADAPTER@ALIAS or tenants/TENANT/adapters/ADAPTER; tenant and adapter are a-z or 0-9, "
        "then up to 62 of a-z 0-9 . _ -",
    )
