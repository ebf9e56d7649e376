"""Leases: what inference holds stays in the blob store, whatever becomes of the versions meanwhile."""

from collections.abc import Collection
from datetime import timedelta

from services.adapter_store.domain.actor import STORE, Actor
from services.adapter_store.domain.fields import check_range, check_sha256, check_text
from services.adapter_store.domain.lease import Lease
from services.adapter_store.metadata import Database
from services.common.errors import invalid_field

# So many fit one gRPC message of 4 MiB; who holds more takes several leases.
MAX_KEYS = 50_000
MAX_ID_CHARS = 128
MAX_HOLDER_CHARS = 256
DEFAULT_TTL_S, MIN_TTL_S, MAX_TTL_S = 60, 5, 3600


class Leases:
    """Leases, by the ids that their holders chose. Renewing is no change that the audit log tells of.

    They expire by the database's clock: replicas' own may differ.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def acquire(
        self, lease_id: str, holder: str, keys: Collection[str], ttl_s: int, actor: Actor = STORE
    ) -> Lease:
        """Makes the lease, or renews it with these keys instead of its own. Raises INVALID_FIELD.

        A key that no version has keeps nothing, and is no error.
        """
        check_text(lease_id, "lease_id", max_chars=MAX_ID_CHARS, required=True)
        check_text(holder, "holder", max_chars=MAX_HOLDER_CHARS)
        check_range(ttl_s or DEFAULT_TTL_S, "ttl_s", low=MIN_TTL_S, high=MAX_TTL_S)
        if len(keys) > MAX_KEYS:
            raise invalid_field("keys", f"has {len(keys)} keys: at most {MAX_KEYS}; take a second lease")
        for index, key in enumerate(keys):
            check_sha256(key, f"keys[{index}]")
        wanted = set(keys)
        with self._database.write(actor) as uow:
            expire_time = uow.now() + timedelta(seconds=ttl_s or DEFAULT_TTL_S)
            if uow.leases.put(lease_id, holder, wanted, expire_time):
                uow.audit.add("", f"leases/{lease_id}", f"acquired by {holder}")
            uow.commit()
        return Lease(lease_id, holder, len(wanted), expire_time)

    def release(self, lease_id: str, actor: Actor = STORE) -> None:
        """Ends the lease; no error if there is none. Raises INVALID_FIELD."""
        check_text(lease_id, "lease_id", max_chars=MAX_ID_CHARS, required=True)
        with self._database.write(actor) as uow:
            if uow.leases.release(lease_id):
                uow.audit.add("", f"leases/{lease_id}", "released")
            uow.commit()
