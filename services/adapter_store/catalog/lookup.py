"""Finds what a name means inside one unit of work, or says NOT_FOUND with what to do."""

from dataclasses import dataclass

from services.adapter_store.domain.adapter import Adapter
from services.adapter_store.domain.alias import Alias, Shadow, TrafficTarget
from services.adapter_store.domain.base_model import BaseModel
from services.adapter_store.domain.fields import quoted
from services.adapter_store.domain.names import LATEST, PRODUCTION, AdapterName, Reference
from services.adapter_store.domain.version import AdapterVersion, VersionState, not_active
from services.adapter_store.metadata import UnitOfWork
from services.common.errors import Reason, ServiceError, not_found
from services.common.traffic_split import choose_target


@dataclass(frozen=True, slots=True)
class Resolution:
    """What a name means: a version, and what the alias that led to it splits traffic over and shadows."""

    version: AdapterVersion
    targets: tuple[TrafficTarget, ...] = ()
    shadow: Shadow | None = None


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
        Reason.ADAPTER_NOT_FOUND,
        f"no adapter {name}: check the name, or make it with CreateAdapter (`multilora push`)",
    )


def no_tenant(tenant: str) -> ServiceError:
    """The caller may know of no tenant of this name."""
    return not_found(
        Reason.TENANT_NOT_FOUND,
        f"no tenant {quoted(tenant)}: check the name, or use a token that is good in it",
    )


def lock_adapter(uow: UnitOfWork, name: AdapterName) -> Adapter:
    """The adapter of this name, which nobody else changes before this unit of work ends.

    Whoever points at a version, or deletes one, holds this. Raises ADAPTER_NOT_FOUND.
    """
    uow.adapters.lock(name)
    return find_adapter(uow, name)


def find_active(uow: UnitOfWork, adapter: Adapter, number: int) -> AdapterVersion:
    """The version of this number. Raises VERSION_NOT_FOUND, VERSION_NOT_ACTIVE."""
    return _active(uow, adapter.id, adapter.name, number)


def find_version(uow: UnitOfWork, adapter: Adapter, number: int) -> AdapterVersion:
    """The version of this number, in any state. Raises VERSION_NOT_FOUND."""
    return _version(uow, adapter.id, adapter.name, number)


def resolve(uow: UnitOfWork, reference: Reference, split_key: str = "") -> Resolution:
    """The one ACTIVE version that `reference` means now, for requests with this `split_key`.

    A bare name means its `production` alias, else the highest ACTIVE version. A target that is not ACTIVE
    is an error, never another version. Raises NOT_FOUND reasons, VERSION_NOT_ACTIVE.
    """
    name = reference.adapter
    pointers = uow.adapters.pointers(name, reference.alias or PRODUCTION)
    if pointers is None:
        raise no_adapter(name)
    if reference.version is not None:
        return Resolution(_active(uow, pointers.adapter_id, name, reference.version))
    if reference.alias != LATEST:
        if pointers.alias is not None:
            return _by_alias(uow, pointers.adapter_id, name, pointers.alias, split_key)
        if reference.alias is not None:
            raise no_alias(name, reference.alias)
    if not pointers.latest_version:
        raise not_found(
            Reason.VERSION_NOT_FOUND, f"{name} has no active version: upload one and finish the upload"
        )
    return Resolution(_active(uow, pointers.adapter_id, name, pointers.latest_version))


def no_alias(name: AdapterName, alias: str) -> ServiceError:
    """ALIAS_NOT_FOUND."""
    return not_found(
        Reason.ALIAS_NOT_FOUND,
        f"no alias {quoted(alias)} of {name}: GetAdapter (`multilora show`) shows those there are, "
        "SetAlias (`multilora alias`) makes one",
    )


def _by_alias(
    uow: UnitOfWork, adapter_id: int, name: AdapterName, alias: Alias, split_key: str
) -> Resolution:
    number, targets = alias.version, alias.aim.targets
    if targets:
        weights = [(target.version, target.weight) for target in targets]
        number = choose_target(str(name), split_key, weights)
    return Resolution(_active(uow, adapter_id, name, number), targets, alias.aim.shadow)


def _active(uow: UnitOfWork, adapter_id: int, name: AdapterName, number: int) -> AdapterVersion:
    version = _version(uow, adapter_id, name, number)
    if version.state is not VersionState.ACTIVE:
        raise not_active(version)
    return version


def _version(uow: UnitOfWork, adapter_id: int, name: AdapterName, number: int) -> AdapterVersion:
    version = uow.versions.get(adapter_id, number)
    if version is None:
        raise not_found(
            Reason.VERSION_NOT_FOUND,
            f"no version {number} of {name}: ListVersions (`multilora show`) shows those there are",
        )
    return version
