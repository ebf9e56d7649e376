"""Rows of uploads, and of which tenant has sent which blob."""

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, func, insert, select, update

from services.adapter_store.domain.names import AdapterName
from services.adapter_store.domain.upload import Refusal, Upload, UploadState
from services.adapter_store.domain.version import VersionFile
from services.adapter_store.metadata.insertion import insert_if_absent
from services.adapter_store.metadata.storable import is_storable
from services.adapter_store.metadata.tables import adapters, tenant_blobs, uploads, version_files, versions
from services.adapter_store.metadata.timestamps import from_us, to_us

_SELECT = (
    select(uploads, adapters.c.tenant, adapters.c.adapter, versions.c.base_model)
    .join(adapters, adapters.c.id == uploads.c.adapter_id)
    .join(
        versions,
        (versions.c.adapter_id == uploads.c.adapter_id) & (versions.c.version == uploads.c.version),
    )
)


class UploadRows:
    """Uploads by id."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def insert(
        self,
        upload_id: str,
        adapter_id: int,
        version: int,
        request_id: str | None,
        fingerprint: str,
        now: datetime,
    ) -> None:
        """Adds an OPEN upload of a CREATING version."""
        self._connection.execute(
            insert(uploads).values(
                id=upload_id,
                adapter_id=adapter_id,
                version=version,
                state=UploadState.OPEN.value,
                request_id=request_id,
                fingerprint=fingerprint,
                create_time_us=to_us(now),
            )
        )

    def get(self, upload_id: str) -> Upload | None:
        """The upload of this id."""
        return self._one(_SELECT.where(uploads.c.id == upload_id)) if is_storable(upload_id) else None

    def tenant_of(self, upload_id: str) -> str | None:
        """Whose upload it is, in whatever state."""
        if not is_storable(upload_id):
            return None
        query = select(adapters.c.tenant).join(uploads, uploads.c.adapter_id == adapters.c.id)
        row = self._connection.execute(query.where(uploads.c.id == upload_id)).first()
        return None if row is None else str(row.tenant)

    def by_request(self, adapter_id: int, request_id: str) -> Upload | None:
        """The upload that `request_id` started."""
        return self._one(
            _SELECT.where(uploads.c.adapter_id == adapter_id, uploads.c.request_id == request_id)
        )

    def open_ids(self, adapter_id: int | None = None) -> Sequence[str]:
        """Ids of OPEN uploads, oldest first; of one adapter or of all."""
        query = select(uploads.c.id).where(uploads.c.state == UploadState.OPEN.value)
        if adapter_id is not None:
            query = query.where(uploads.c.adapter_id == adapter_id)
        rows = self._connection.execute(query.order_by(uploads.c.create_time_us, uploads.c.id))
        return [row.id for row in rows]

    def close(self, upload_id: str, state: UploadState, refusal: Refusal | None = None) -> bool:
        """Ends the upload if it is still OPEN; says whether it did."""
        query = (
            update(uploads)
            .where(uploads.c.id == upload_id, uploads.c.state == UploadState.OPEN.value)
            .values(state=state.value, refusal=None if refusal is None else asdict(refusal))
        )
        return self._connection.execute(query).rowcount == 1

    def forget_requests(self, adapter_id: int) -> None:
        """Lets every request_id of the adapter start something new."""
        query = update(uploads).where(uploads.c.adapter_id == adapter_id).values(request_id=None)
        self._connection.execute(query)

    def count_by_state(self) -> dict[str, int]:
        """How many uploads are in each state."""
        query = select(uploads.c.state, func.count().label("n")).group_by(uploads.c.state)
        return {row.state: row.n for row in self._connection.execute(query)}

    def tenant_has(self, tenant: str, file: VersionFile) -> bool:
        """Whether `tenant` has itself sent these bytes before."""
        query = select(tenant_blobs.c.sha256).where(
            tenant_blobs.c.tenant == tenant,
            tenant_blobs.c.sha256 == file.sha256,
            tenant_blobs.c.size_bytes == file.size_bytes,
        )
        return self._connection.execute(query).first() is not None

    def add_tenant_blob(self, tenant: str, file: VersionFile) -> None:
        """Remembers that `tenant` has sent these bytes."""
        values = {"tenant": tenant, "sha256": file.sha256, "size_bytes": file.size_bytes}
        insert_if_absent(self._connection, tenant_blobs, values)

    def tenant_blobs(self) -> Sequence[tuple[str, int]]:
        """Every blob that some tenant has sent, as (sha256, size in bytes)."""
        query = select(tenant_blobs.c.sha256, tenant_blobs.c.size_bytes).distinct()
        return [(row.sha256, row.size_bytes) for row in self._connection.execute(query)]

    def _one(self, query: Select[Any]) -> Upload | None:
        row = self._connection.execute(query).first()
        if row is None:
            return None
        file_query = (
            select(version_files)
            .where(version_files.c.adapter_id == row.adapter_id, version_files.c.version == row.version)
            .order_by(version_files.c.position)
        )
        return _upload(row, self._connection.execute(file_query).all())


def _upload(row: Row[Any], file_rows: Sequence[Row[Any]]) -> Upload:
    return Upload(
        id=row.id,
        adapter_id=row.adapter_id,
        adapter=AdapterName(row.tenant, row.adapter),
        version=row.version,
        base_model=row.base_model,
        state=UploadState(row.state),
        files=tuple(VersionFile(file.path, file.size_bytes, file.sha256) for file in file_rows),
        stored=frozenset(file.path for file in file_rows if file.stored),
        fingerprint=row.fingerprint,
        refusal=None if row.refusal is None else Refusal(**row.refusal),
        create_time=from_us(row.create_time_us),
    )
