"""Finds what a name means inside one unit of work, or says NOT_FOUND with what to do."""

from services.adapter_store.domain.adapter import Adapter
from services.adapter_store.domain.base_model import BaseModel
from services.adapter_store.domain.fields import quoted
from services.adapter_store.domain.names import LATEST, PRODUCTION, AdapterName, Reference
from services.adapter_store.domain.version import AdapterVersion, VersionState, not_active
from services.adapter_store.metadata import UnitOfWork
from services.common.errors import Reason, ServiceError, not_found


def find_base_model(uow: UnitOfWork, name: str) -> BaseModel:
    """The base model of this name. Raises BASE_MODEL_NOT_FOUND."""
    model = uow.base_models.get(name)
    if model is None:
        raise not_found(
            Reason.BASE_MODEL_NOT_FOUND,
            f"no base model {quoted(name)} is registered: start an inference service for it with --store, "
            "or call RegisterBaseModel",
        )
    return model


def find_adapter(uow: UnitOfWork, name: AdapterName) -> Adapter:
    """The adapter of this name. Raises ADAPTER_NOT_FOUND."""
    adapter = uow.adapters.get(name)
    if adapter is None:
        raise no_adapter(name)
    return adapter


def no_adapter(name: AdapterName) -> ServiceError:
    """There is no adapter of this name, or none that the caller may know of."""
    return not_found(
        Reason.ADAPTER_NOT_FOUND, f"no adapter {name}: check the name, or make it with CreateAdapter"
    )


def no_tenant(tenant: str) -> ServiceError:
    """The caller may know of no tenant of this name."""
    return not_found(
        Reason.TENANT_NOT_FOUND,
        f"no tenant {quoted(tenant)}: check the name, or use a token that is good in it",
    )


def find_version(uow: UnitOfWork, adapter: Adapter, number: int) -> AdapterVersion:
    """The version of this number, in any state. Raises VERSION_NOT_FOUND."""
    version = uow.versions.get(adapter.id, number)
    if version is None:
        raise not_found(
            Reason.VERSION_NOT_FOUND,
            f"no version {number} of {adapter.name}: ListVersions shows those there are",
        )
    return version


def resolve(uow: UnitOfWork, reference: Reference) -> AdapterVersion:
    """The one ACTIVE version that `reference` means now.

    A bare name means its `production` alias, else the highest ACTIVE version. An alias whose target is
    not ACTIVE is an error, never another version. Raises NOT_FOUND reasons, VERSION_NOT_ACTIVE.
    """
    adapter = find_adapter(uow, reference.adapter)
    if reference.version is not None:
        version = find_version(uow, adapter, reference.version)
    else:
        version = _by_alias(uow, adapter, reference.alias)
    if version.state is not VersionState.ACTIVE:
        raise not_active(version)
    return version


def _by_alias(uow: UnitOfWork, adapter: Adapter, alias: str | None) -> AdapterVersion:
    if alias != LATEST:
        found = uow.aliases.get(adapter.id, alias or PRODUCTION)
        if found is not None:
            return find_version(uow, adapter, found.version)
        if alias is not None:
            raise not_found(
                Reason.ALIAS_NOT_FOUND,
                f"no alias {quoted(alias)} of {adapter.name}: GetAdapter shows those there are, "
                "SetAlias makes one",
            )
    latest = uow.versions.latest_active(adapter.id)
    if latest is None:
        raise not_found(
            Reason.VERSION_NOT_FOUND,
            f"{adapter.name} has no active version: upload one and finish the upload",
        )
    return latest
