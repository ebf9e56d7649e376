"""Rows of blobs: the protocol by which storing and deleting the same bytes never cross.

A row's lock decides. Who stores `claim`s first and may go on unless the row is DELETING; who deletes
`condemn`s, which looks for references only once it holds the lock; who counts on bytes that are there
takes `lock_stored` in the transaction that writes its reference.
"""

from collections.abc import Collection, Sequence
from datetime import datetime

from sqlalchemy import Connection, delete, or_, select, update

from services.adapter_store.domain.blob import BlobState
from services.adapter_store.domain.version import VersionState
from services.adapter_store.metadata.insertion import insert_if_absent
from services.adapter_store.metadata.tables import (
    blobs,
    lease_keys,
    leases,
    tenant_blobs,
    version_files,
    versions,
)
from services.adapter_store.metadata.timestamps import to_us

# What a version in these states refers to is wanted: to be read, or to become readable.
_REFERRING = (VersionState.CREATING.value, VersionState.ACTIVE.value, VersionState.DISABLED.value)
_READABLE = (VersionState.ACTIVE.value, VersionState.DISABLED.value)


class BlobRows:
    """Blobs by sha256."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def lock(self, sha256: str) -> BlobState | None:
        """The blob's state, which stays as it is until this transaction ends; None if there is no row."""
        query = select(blobs.c.state).where(blobs.c.sha256 == sha256).with_for_update()
        row = self._connection.execute(query).first()
        return None if row is None else BlobState(row.state)

    def claim(self, sha256: str, size_bytes: int, now: datetime) -> BlobState | None:
        """Before bytes are stored: makes the row if there is none, and says what it is now.

        DELETING, or None where it has just gone: nothing may be stored yet.
        """
        values = {"sha256": sha256, "size_bytes": size_bytes, "create_time_us": to_us(now)}
        if insert_if_absent(self._connection, blobs, {**values, "state": BlobState.STORING.value}):
            return BlobState.STORING
        state = self.lock(sha256)
        if state in (BlobState.STORING, BlobState.STORED):
            query = update(blobs).where(blobs.c.sha256 == sha256).values(create_time_us=to_us(now))
            self._connection.execute(query)
        return state

    def set_stored(self, sha256: str) -> None:
        """After `claim`, once the bytes are verified and durable."""
        query = (
            update(blobs)
            .where(blobs.c.sha256 == sha256, blobs.c.state != BlobState.DELETING.value)
            .values(state=BlobState.STORED.value)
        )
        self._connection.execute(query)

    def stored(self, digests: Collection[str]) -> frozenset[str]:
        """Which of `digests` are STORED at this moment."""
        query = select(blobs.c.sha256).where(
            blobs.c.sha256.in_(digests), blobs.c.state == BlobState.STORED.value
        )
        return frozenset(row.sha256 for row in self._connection.execute(query))

    def lock_stored(self, digests: Collection[str]) -> frozenset[str]:
        """Which of `digests` are STORED; those stay so if this transaction refers to them and commits."""
        found = set()
        for sha256 in sorted(digests):  # everybody locks in the same order
            if self.lock(sha256) is BlobState.STORED:
                found.add(sha256)
        return frozenset(found)

    def condemn(self, sha256: str, now: datetime, deleted_since: datetime) -> bool:
        """Marks the blob DELETING if nothing refers to it (see `referred`); says whether it is.

        Also where no row is: the row then keeps others from storing these bytes while they are deleted.
        """
        values = {"sha256": sha256, "size_bytes": 0, "create_time_us": to_us(now)}
        is_new = insert_if_absent(self._connection, blobs, {**values, "state": BlobState.DELETING.value})
        state = None if is_new else self.lock(sha256)
        # Only now, with the row locked: a reference that is committed later waits, and sees DELETING.
        if self.referred([sha256], now, deleted_since):
            if is_new:
                self._connection.execute(delete(blobs).where(blobs.c.sha256 == sha256))
            return False
        if is_new or state is BlobState.DELETING:
            return True
        query = update(blobs).where(blobs.c.sha256 == sha256).values(state=BlobState.DELETING.value)
        return self._connection.execute(query).rowcount == 1

    def delete(self, sha256: str) -> None:
        """Forgets the blob, and which tenants have sent it."""
        for table in (blobs, tenant_blobs):
            self._connection.execute(delete(table).where(table.c.sha256 == sha256))

    def referred(self, digests: Collection[str], now: datetime, deleted_since: datetime) -> frozenset[str]:
        """Which of `digests` a version, an upload or a lease that has not expired refers to.

        A version that was deleted after `deleted_since` refers to its files still.
        """
        if not digests:
            return frozenset()
        leased = (
            select(lease_keys.c.key)
            .join(leases, leases.c.id == lease_keys.c.lease_id)
            .where(leases.c.expire_time_us > to_us(now))
        )
        query = (
            select(version_files.c.sha256)
            .distinct()
            .join(
                versions,
                (versions.c.adapter_id == version_files.c.adapter_id)
                & (versions.c.version == version_files.c.version),
            )
            .where(version_files.c.sha256.in_(digests))
            .where(
                or_(
                    versions.c.state.in_(_REFERRING),
                    versions.c.delete_time_us > to_us(deleted_since),
                    versions.c.key.in_(leased),
                )
            )
        )
        return frozenset(row.sha256 for row in self._connection.execute(query))

    def readable_between(self, after: str, last: str | None) -> frozenset[str]:
        """Digests in (after, last] of files of versions that may be read; without `last`, of all after."""
        query = (
            select(version_files.c.sha256)
            .distinct()
            .join(
                versions,
                (versions.c.adapter_id == version_files.c.adapter_id)
                & (versions.c.version == version_files.c.version),
            )
            .where(versions.c.state.in_(_READABLE), version_files.c.sha256 > after)
        )
        if last is not None:
            query = query.where(version_files.c.sha256 <= last)
        return frozenset(row.sha256 for row in self._connection.execute(query))

    def some_readable(self, limit: int) -> frozenset[str]:
        """Digests of up to `limit` files of versions that may be read."""
        query = (
            select(version_files.c.sha256)
            .distinct()
            .join(
                versions,
                (versions.c.adapter_id == version_files.c.adapter_id)
                & (versions.c.version == version_files.c.version),
            )
            .where(versions.c.state.in_(_READABLE))
            .limit(limit)
        )
        return frozenset(row.sha256 for row in self._connection.execute(query))

    def create_times_us(self, after: str, last: str | None) -> dict[str, int]:
        """When each blob of a row in (after, last] was last claimed; without `last`, of all after."""
        query = select(blobs.c.sha256, blobs.c.create_time_us).where(blobs.c.sha256 > after)
        if last is not None:
            query = query.where(blobs.c.sha256 <= last)
        return {row.sha256: row.create_time_us for row in self._connection.execute(query)}

    def deleting(self) -> Sequence[str]:
        """Blobs whose deletion was begun."""
        query = select(blobs.c.sha256).where(blobs.c.state == BlobState.DELETING.value)
        return [row.sha256 for row in self._connection.execute(query.order_by(blobs.c.sha256))]
