"""Shows, resolves, disables and enables versions. Making them is the business of uploads."""

from collections.abc import Sequence
from datetime import timedelta

from services.adapter_store.catalog.lookup import Resolution, find_adapter, find_version, resolve
from services.adapter_store.domain.actor import STORE, Actor
from services.adapter_store.domain.change import ChangeKind
from services.adapter_store.domain.fields import check_sha256, quoted
from services.adapter_store.domain.garbage import DELETED_GRACE
from services.adapter_store.domain.listing import Key, Listing, list_page
from services.adapter_store.domain.names import AdapterName, Reference
from services.adapter_store.domain.version import (
    AdapterVersion,
    VersionFile,
    VersionState,
    check_key,
    not_active,
)
from services.adapter_store.metadata import Database, UnitOfWork
from services.common.errors import Code, Reason, ServiceError, invalid_field, not_found

# A disabled version is refused to new requests, but streams that run on it may still have to fetch it.
READABLE = (VersionState.ACTIVE, VersionState.DISABLED)
MAX_SPLIT_KEY_CHARS = 256
_CHANGES = {
    VersionState.ACTIVE: ChangeKind.VERSION_ACTIVE,
    VersionState.DISABLED: ChangeKind.VERSION_DISABLED,
}


class Versions:
    """Versions, by name or AdapterKey. Collections leave a version alone for `deleted_grace`."""

    def __init__(self, database: Database, deleted_grace: timedelta = DELETED_GRACE) -> None:
        self._database = database
        self._deleted_grace = deleted_grace

    def get(self, name: AdapterName, number: int) -> AdapterVersion:
        """The version in whatever state it is. Raises ADAPTER_NOT_FOUND, VERSION_NOT_FOUND."""
        with self._database.read() as uow:
            return find_version(uow, find_adapter(uow, name), number)

    def list(self, name: AdapterName, page_size: int, page_token: str) -> Listing[AdapterVersion]:
        """Versions of one adapter, newest first."""

        def fetch(after: Key | None, limit: int) -> Sequence[AdapterVersion]:
            with self._database.read() as uow:
                adapter = find_adapter(uow, name)
                return uow.versions.page(adapter.id, None if after is None else int(after[0]), limit)

        return list_page(
            f"versions/{name}", page_size, page_token, (0,), fetch, lambda version: (version.version,)
        )

    def resolve(self, reference: Reference, split_key: str = "") -> Resolution:
        """The one ACTIVE version that any form of name means now, for requests with this `split_key`."""
        if len(split_key) > MAX_SPLIT_KEY_CHARS:
            raise invalid_field("split_key", f"at most {MAX_SPLIT_KEY_CHARS} characters")
        with self._database.read() as uow:
            found = resolve(uow, reference, split_key)
        check_key(found.version)
        return found

    def disable(self, name: AdapterName, number: int, actor: Actor = STORE) -> AdapterVersion:
        """ACTIVE to DISABLED; no error if it is DISABLED already. Raises VERSION_NOT_ACTIVE."""
        return self._move(name, number, VersionState.ACTIVE, VersionState.DISABLED, actor)

    def enable(self, name: AdapterName, number: int, actor: Actor = STORE) -> AdapterVersion:
        """DISABLED to ACTIVE; no error if it is ACTIVE already. Raises VERSION_NOT_ACTIVE."""
        return self._move(name, number, VersionState.DISABLED, VersionState.ACTIVE, actor)

    def readable_file(self, version: Reference | str, path: str, tenant: str | None = None) -> VersionFile:
        """One file of a version that is named, or given by an AdapterKey that `tenant` (None: anybody) has.

        A deleted version's too, by name, while collections leave its files alone: streams that run on it may
        have to fetch it, and requests that resolved it just before may not have leased it yet. Raises
        NOT_FOUND reasons, and VERSION_NOT_ACTIVE for a version that was never wholly there.
        """
        with self._database.read() as uow:
            if isinstance(version, str):
                check_sha256(version, "key")
                found = uow.versions.with_key(version, READABLE, tenant)
                if found is None:
                    raise not_found(
                        Reason.VERSION_NOT_FOUND, f"no version has the key {version}: resolve its name"
                    )
            elif version.version is not None:
                kept = self._kept(uow, version.adapter, version.version)
                found = kept or find_version(uow, find_adapter(uow, version.adapter), version.version)
                if kept is None and found.state not in READABLE:
                    raise not_active(found)
            else:
                found = resolve(uow, version).version
        check_key(found)
        for file in found.files:
            if file.path == path:
                return file
        raise _no_file(found, path)

    def _kept(self, uow: UnitOfWork, name: AdapterName, number: int) -> AdapterVersion | None:
        deleted = uow.versions.deleted(name, number)
        # One that was never wholly there has nothing to read.
        if deleted is None or deleted[0].weights is None:
            return None
        version, delete_time = deleted
        now = uow.now()
        is_kept = delete_time > now - self._deleted_grace or uow.leases.holds(version.key, now)
        return version if is_kept else None

    def _move(
        self,
        name: AdapterName,
        number: int,
        from_state: VersionState,
        to_state: VersionState,
        actor: Actor,
    ) -> AdapterVersion:
        with self._database.write(actor) as uow:
            adapter = find_adapter(uow, name)
            moved = uow.versions.move_state(adapter.id, number, from_state, to_state)
            version = find_version(uow, adapter, number)
            if not moved and version.state is not to_state:
                raise not_active(version)
            if moved:
                uow.audit.add(name.tenant, version.name, f"{from_state} to {to_state}")
                uow.changes.add(_CHANGES[to_state], name.tenant, version.name)
            uow.commit()
        return version


def _no_file(version: AdapterVersion, path: str) -> ServiceError:
    paths = ", ".join(file.path for file in version.files)
    return ServiceError(
        Code.NOT_FOUND,
        Reason.FILE_NOT_FOUND,
        f"{version.name} has no file {quoted(path)}: it has {paths}",
        field="path",
    )
