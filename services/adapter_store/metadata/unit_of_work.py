"""One transaction over all of the store's rows; rolled back unless committed."""

from collections.abc import Callable
from datetime import UTC, datetime

from sqlalchemy import Connection

from services.adapter_store.domain.actor import STORE, Actor
from services.adapter_store.metadata.adapter_rows import AdapterRows
from services.adapter_store.metadata.alias_rows import AliasRows
from services.adapter_store.metadata.audit_rows import AuditRows
from services.adapter_store.metadata.base_model_rows import BaseModelRows
from services.adapter_store.metadata.blob_rows import BlobRows
from services.adapter_store.metadata.change_rows import ChangeRows
from services.adapter_store.metadata.database_clock import database_time
from services.adapter_store.metadata.lease_rows import LeaseRows
from services.adapter_store.metadata.staged_file_rows import StagedFileRows
from services.adapter_store.metadata.tenant_count_rows import TenantCountRows
from services.adapter_store.metadata.tenant_rows import TenantRows
from services.adapter_store.metadata.token_rows import TokenRows
from services.adapter_store.metadata.upload_rows import UploadRows
from services.adapter_store.metadata.version_rows import VersionRows


def _read_only() -> None:
    raise AssertionError("a unit of work opened by `read` cannot commit")


def _nothing() -> None:
    return None


class UnitOfWork:
    """The rows of each noun, all in the same transaction.

    Whoever changes something adds it to `audit`, and to `changes` if watchers are to know.
    """

    def __init__(
        self,
        connection: Connection,
        commit: Callable[[], None] = _read_only,
        actor: Actor = STORE,
        on_changes: Callable[[], None] = _nothing,
        clock: Callable[[Connection], datetime] = database_time,
    ) -> None:
        self.base_models = BaseModelRows(connection)
        self.adapters = AdapterRows(connection)
        self.versions = VersionRows(connection)
        self.aliases = AliasRows(connection)
        self.uploads = UploadRows(connection)
        self.staged_files = StagedFileRows(connection)
        self.blobs = BlobRows(connection)
        self.leases = LeaseRows(connection)
        self.tenants = TenantRows(connection)
        self.tenant_counts = TenantCountRows(connection)
        self.tokens = TokenRows(connection)
        self.audit = AuditRows(connection, actor)
        self.changes = ChangeRows(connection)
        self._connection = connection
        self._clock = clock
        self._commit = commit
        self._on_changes = on_changes

    def now(self) -> datetime:
        """The database's time: for what one replica writes and another compares with its own now."""
        return self._clock(self._connection)

    def commit(self) -> None:
        """Makes everything durable. Nothing may follow in this unit of work."""
        now = datetime.now(UTC)
        self.audit.flush(now)
        has_changes = self.changes.flush(now)
        self._commit()
        if has_changes:
            self._on_changes()
