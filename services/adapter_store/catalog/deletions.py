"""Deletes versions and adapters. Rows stay as tombstones: no name ever means other weights.

Must not know blobs: garbage collection frees bytes that nothing refers to any more.
"""

from collections.abc import Callable
from datetime import datetime

from services.adapter_store.catalog.aliases import drop_alias
from services.adapter_store.catalog.lookup import find_version, lock_adapter
from services.adapter_store.domain.actor import STORE, Actor
from services.adapter_store.domain.adapter import Adapter, stale_etag
from services.adapter_store.domain.change import ChangeKind
from services.adapter_store.domain.names import AdapterName
from services.adapter_store.domain.upload import UploadState
from services.adapter_store.domain.version import AdapterVersion, VersionState, not_active
from services.adapter_store.metadata import Database, UnitOfWork
from services.common.errors import Code, Reason, ServiceError


class Deletions:
    """Deletes by name. `now` is the clock; `drop_staged` forgets the bytes of an upload that was ended.

    When a version was deleted is told by the database's clock, which collections compare it with.
    """

    def __init__(
        self, database: Database, now: Callable[[], datetime], drop_staged: Callable[[str], None]
    ) -> None:
        self._database = database
        self._now = now
        self._drop_staged = drop_staged

    def delete_version(self, name: AdapterName, number: int, actor: Actor = STORE) -> AdapterVersion:
        """Any state to DELETED; an upload that still makes the version is given up.

        Raises VERSION_IN_USE while an alias points at it or shadows it, VERSION_NOT_ACTIVE if it is deleted
        already, ADAPTER_NOT_FOUND, VERSION_NOT_FOUND.
        """
        with self._database.write(actor) as uow:
            uow.tenants.lock(name.tenant)
            adapter = lock_adapter(uow, name)
            version = find_version(uow, adapter, number)
            if version.state is VersionState.DELETED:
                raise not_active(version)
            users = [alias.name for alias in adapter.aliases if number in alias.aim.versions]
            if users:
                raise _in_use(version, users)
            upload_ids = _end_uploads(uow, adapter, number)
            uow.tenant_counts.drop(name.tenant, adapter.id, number)
            uow.versions.delete(adapter.id, number, uow.now())
            uow.audit.add(name.tenant, version.name, f"{version.state} to {VersionState.DELETED}")
            uow.changes.add(ChangeKind.VERSION_DELETED, name.tenant, version.name)
            deleted = find_version(uow, adapter, number)
            uow.commit()
        self._drop_all_staged(upload_ids)
        return deleted

    def delete_adapter(self, name: AdapterName, etag: str, actor: Actor = STORE) -> None:
        """The adapter, its aliases and its versions; its open uploads are given up.

        A non-empty `etag` must be the current one, else STALE_ETAG. Raises ADAPTER_NOT_FOUND.
        """
        with self._database.write(actor) as uow:
            uow.tenants.lock(name.tenant)
            adapter = lock_adapter(uow, name)
            if etag and etag != adapter.etag:
                raise stale_etag(etag, adapter)
            now = self._now()
            for alias in adapter.aliases:
                drop_alias(uow, adapter, alias, now, actor)
            upload_ids = _end_uploads(uow, adapter)
            # Made again, the adapter is another one: a request of the old one must not find what is gone.
            uow.uploads.forget_requests(adapter.id)
            uow.tenant_counts.drop(name.tenant, adapter.id, None)
            num_versions = uow.versions.delete(adapter.id, None, uow.now())
            if not uow.adapters.delete(adapter, now):
                raise stale_etag(etag, adapter)
            uow.audit.add(name.tenant, str(name), f"deleted with {num_versions} versions")
            uow.changes.add(ChangeKind.ADAPTER_DELETED, name.tenant, str(name))
            uow.commit()
        self._drop_all_staged(upload_ids)

    def _drop_all_staged(self, upload_ids: list[str]) -> None:
        for upload_id in upload_ids:
            self._drop_staged(upload_id)


def _end_uploads(uow: UnitOfWork, adapter: Adapter, number: int | None = None) -> list[str]:
    ended = []
    for upload_id in uow.uploads.open_ids(adapter.id):
        upload = uow.uploads.get(upload_id)
        is_meant = upload is not None and number in (None, upload.version)
        if is_meant and uow.uploads.close(upload_id, UploadState.ABORTED):
            ended.append(upload_id)
    return ended


def _in_use(version: AdapterVersion, aliases: list[str]) -> ServiceError:
    names = ", ".join(aliases[:8]) + (" and others" if len(aliases) > 8 else "")
    return ServiceError(
        Code.FAILED_PRECONDITION,
        Reason.VERSION_IN_USE,
        f"{version.name} is what {names} of {version.adapter} points at: move or delete the alias first, "
        "or disable the version",
        metadata={"alias": aliases[0]},
    )
