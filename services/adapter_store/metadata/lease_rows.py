"""Rows of leases and the AdapterKeys that each keeps."""

from collections.abc import Collection
from datetime import datetime

from sqlalchemy import Connection, delete, insert, select, update

from services.adapter_store.metadata.insertion import insert_if_absent
from services.adapter_store.metadata.tables import lease_keys, leases
from services.adapter_store.metadata.timestamps import to_us

# Values of one IN list: databases take some thousands.
_BATCH = 1000


class LeaseRows:
    """Leases by id."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def put(self, lease_id: str, holder: str, keys: Collection[str], expire_time: datetime) -> bool:
        """Makes the lease or renews it, with exactly these keys; says whether it is new."""
        values = {"holder": holder, "expire_time_us": to_us(expire_time)}
        is_new = insert_if_absent(self._connection, leases, {"id": lease_id, **values})
        if not is_new:
            # Also locks the lease, so that two renewals do not mix their keys.
            self._connection.execute(update(leases).where(leases.c.id == lease_id).values(**values))
        wanted, held = set(keys), set() if is_new else self._keys(lease_id)
        self._drop_keys(lease_id, sorted(held - wanted))
        added = [{"lease_id": lease_id, "key": key} for key in sorted(wanted - held)]
        if added:
            self._connection.execute(insert(lease_keys), added)
        return is_new

    def release(self, lease_id: str) -> bool:
        """Ends the lease; says whether there was one."""
        self._connection.execute(delete(lease_keys).where(lease_keys.c.lease_id == lease_id))
        return self._connection.execute(delete(leases).where(leases.c.id == lease_id)).rowcount == 1

    def drop_expired(self, now: datetime) -> int:
        """Removes leases that have expired; returns how many."""
        expired = select(leases.c.id).where(leases.c.expire_time_us <= to_us(now)).with_for_update()
        ids = [row.id for row in self._connection.execute(expired)]
        for lease_id in ids:
            self.release(lease_id)
        return len(ids)

    def holds(self, key: str, now: datetime) -> bool:
        """Whether a lease that has not expired keeps this AdapterKey."""
        query = (
            select(lease_keys.c.key)
            .join(leases, leases.c.id == lease_keys.c.lease_id)
            .where(lease_keys.c.key == key, leases.c.expire_time_us > to_us(now))
        )
        return self._connection.execute(query.limit(1)).first() is not None

    def _keys(self, lease_id: str) -> set[str]:
        query = select(lease_keys.c.key).where(lease_keys.c.lease_id == lease_id)
        return {row.key for row in self._connection.execute(query)}

    def _drop_keys(self, lease_id: str, keys: list[str]) -> None:
        for start in range(0, len(keys), _BATCH):
            batch = keys[start : start + _BATCH]
            query = delete(lease_keys).where(lease_keys.c.lease_id == lease_id, lease_keys.c.key.in_(batch))
            self._connection.execute(query)
