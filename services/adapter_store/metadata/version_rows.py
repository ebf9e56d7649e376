"""Rows of versions and their files."""

from base64 import b64decode, b64encode
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, func, insert, select, tuple_, update

from services.adapter_store.domain.names import AdapterName
from services.adapter_store.domain.version import (
    AdapterVersion,
    Lineage,
    VersionFile,
    VersionState,
    WeightsSummary,
)
from services.adapter_store.metadata.tables import adapters, version_files, versions
from services.adapter_store.metadata.timestamps import from_us, to_us
from services.common.manifest_signature import Signature

_LIVING = versions.c.state != VersionState.DELETED.value
_SELECT = select(versions, adapters.c.tenant, adapters.c.adapter).join(adapters)
# One version is read in one round trip: a row for each of its files.
_SELECT_WITH_FILES = (
    select(versions, adapters.c.tenant, adapters.c.adapter)
    .add_columns(version_files.c.path, version_files.c.size_bytes, version_files.c.sha256)
    .select_from(versions)
    .join(adapters)
    .outerjoin(
        version_files,
        (version_files.c.adapter_id == versions.c.adapter_id)
        & (version_files.c.version == versions.c.version),
    )
    .order_by(version_files.c.position)
)


class VersionRows:
    """Versions by adapter id and number."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def insert(
        self,
        adapter_id: int,
        version: int,
        base_model: str,
        key: str,
        files: Sequence[VersionFile],
        stored: frozenset[str],
        labels: dict[str, str],
        lineage: Lineage,
        signature: Signature | None,
        now: datetime,
    ) -> None:
        """Adds a CREATING version and its files; the paths in `stored` are in the blob store already."""
        self._connection.execute(
            insert(versions).values(
                adapter_id=adapter_id,
                version=version,
                base_model=base_model,
                key=key,
                state=VersionState.CREATING.value,
                status_message="",
                labels=labels,
                lineage=asdict(lineage),
                signature_key_id=None if signature is None else signature.key_id,
                signature=None if signature is None else b64encode(signature.signature).decode("ascii"),
                create_time_us=to_us(now),
            )
        )
        place = {"adapter_id": adapter_id, "version": version}
        self._connection.execute(
            insert(version_files),
            [
                {**place, "position": position, **asdict(file), "stored": file.path in stored}
                for position, file in enumerate(files)
            ],
        )

    def get(self, adapter_id: int, version: int) -> AdapterVersion | None:
        """The version of this number."""
        query = _SELECT_WITH_FILES.where(versions.c.adapter_id == adapter_id, versions.c.version == version)
        rows = self._connection.execute(query).all()
        files = [VersionFile(row.path, row.size_bytes, row.sha256) for row in rows if row.path is not None]
        return _version(rows[0], files) if rows else None

    def deleted(self, name: AdapterName, version: int) -> tuple[AdapterVersion, datetime] | None:
        """The version if it was deleted, by itself or with its adapter, and when."""
        query = _SELECT_WITH_FILES.where(
            adapters.c.tenant == name.tenant,
            adapters.c.adapter == name.adapter,
            versions.c.version == version,
            versions.c.state == VersionState.DELETED.value,
        )
        rows = self._connection.execute(query).all()
        if not rows:
            return None
        files = [VersionFile(row.path, row.size_bytes, row.sha256) for row in rows if row.path is not None]
        return _version(rows[0], files), from_us(rows[0].delete_time_us)

    def with_key(
        self, key: str, states: Iterable[VersionState], tenant: str | None = None
    ) -> AdapterVersion | None:
        """Any version with this AdapterKey in one of `states`, of `tenant` or (None) of anybody."""
        wanted = [state.value for state in states]
        query = _SELECT.where(versions.c.key == key, versions.c.state.in_(wanted)).limit(1)
        if tenant is not None:
            query = query.where(adapters.c.tenant == tenant)
        found = self._read(query)
        return found[0] if found else None

    def page(self, adapter_id: int, before: int | None, limit: int) -> Sequence[AdapterVersion]:
        """Up to `limit` versions, newest first; deleted ones are left out."""
        query = (
            _SELECT.where(versions.c.adapter_id == adapter_id, _LIVING)
            .order_by(versions.c.version.desc())
            .limit(limit)
        )
        if before is not None:
            query = query.where(versions.c.version < before)
        return self._read(query)

    def move_state(
        self,
        adapter_id: int,
        version: int,
        from_state: VersionState,
        to_state: VersionState,
        *,
        status_message: str = "",
        weights: WeightsSummary | None = None,
        base_model_digest: str = "",
    ) -> bool:
        """Moves the version if it is still in `from_state`; says whether it did."""
        values: dict[str, Any] = {"state": to_state.value, "status_message": status_message}
        if base_model_digest:
            values["base_model_digest"] = base_model_digest
        if weights is not None:
            values |= {**asdict(weights), "target_modules": list(weights.target_modules)}
        query = (
            update(versions)
            .where(
                versions.c.adapter_id == adapter_id,
                versions.c.version == version,
                versions.c.state == from_state.value,
            )
            .values(**values)
        )
        return self._connection.execute(query).rowcount == 1

    def delete(self, adapter_id: int, version: int | None, now: datetime) -> int:
        """Makes the version (None: all of the adapter) DELETED, for good; says how many it did.

        The rows stay, so that no number is used twice.
        """
        query = update(versions).where(versions.c.adapter_id == adapter_id, _LIVING)
        if version is not None:
            query = query.where(versions.c.version == version)
        values = {"state": VersionState.DELETED.value, "delete_time_us": to_us(now)}
        return self._connection.execute(query.values(**values)).rowcount

    def set_stored(self, adapter_id: int, version: int, path: str) -> None:
        """Marks one file as verified and durable in the blob store."""
        self._connection.execute(
            update(version_files)
            .where(
                version_files.c.adapter_id == adapter_id,
                version_files.c.version == version,
                version_files.c.path == path,
            )
            .values(stored=True)
        )

    def states(self) -> Sequence[tuple[int, int, VersionState]]:
        """Every version as (adapter id, number, state), in order."""
        query = select(versions.c.adapter_id, versions.c.version, versions.c.state)
        rows = self._connection.execute(query.order_by(versions.c.adapter_id, versions.c.version))
        return [(row.adapter_id, row.version, VersionState(row.state)) for row in rows]

    def count_by_state(self) -> dict[str, int]:
        """How many versions are in each state."""
        query = select(versions.c.state, func.count().label("n")).group_by(versions.c.state)
        return {row.state: row.n for row in self._connection.execute(query)}

    def _read(self, query: Select[Any]) -> list[AdapterVersion]:
        rows = self._connection.execute(query).all()
        keys = [(row.adapter_id, row.version) for row in rows]
        files_of: dict[tuple[int, int], list[VersionFile]] = {}
        file_query = (
            select(version_files)
            .where(tuple_(version_files.c.adapter_id, version_files.c.version).in_(keys))
            .order_by(version_files.c.position)
        )
        for row in self._connection.execute(file_query) if keys else ():
            file = VersionFile(row.path, row.size_bytes, row.sha256)
            files_of.setdefault((row.adapter_id, row.version), []).append(file)
        return [_version(row, files_of.get((row.adapter_id, row.version), [])) for row in rows]


def _version(row: Row[Any], files: list[VersionFile]) -> AdapterVersion:
    weights = None
    if row.rank is not None:
        weights = WeightsSummary(
            rank=row.rank,
            alpha=row.alpha,
            target_modules=tuple(row.target_modules),
            rslora=row.rslora,
            dora=row.dora,
            num_parameters=row.num_parameters,
        )
    return AdapterVersion(
        adapter=AdapterName(row.tenant, row.adapter),
        version=row.version,
        base_model=row.base_model,
        key=row.key,
        state=VersionState(row.state),
        status_message=row.status_message,
        files=tuple(files),
        weights=weights,
        labels=row.labels,
        lineage=Lineage(**row.lineage),
        create_time=from_us(row.create_time_us),
        base_model_digest=row.base_model_digest or "",
        signature=_signature(row),
    )


def _signature(row: Row[Any]) -> Signature | None:
    if row.signature_key_id is None or row.signature is None:
        return None
    try:
        return Signature(row.signature_key_id, b64decode(row.signature, validate=True))
    except ValueError:  # altered: no signature that could be good, but one nevertheless
        return Signature(row.signature_key_id, b"")
