"""Shows the audit log. Writing it is the business of each unit of work."""

from collections.abc import Sequence

from services.adapter_store.domain.audit_entry import AuditEntry
from services.adapter_store.domain.audit_filter import AuditFilter
from services.adapter_store.domain.listing import Key, Listing, list_page
from services.adapter_store.metadata import Database
from services.common.caller import EVERY_TENANT

EVERYTHING = AuditFilter()


class AuditLog:
    """Changes that were made, newest first."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def list(
        self, tenant: str, page_size: int, page_token: str, wanted: AuditFilter = EVERYTHING
    ) -> Listing[AuditEntry]:
        """Those of one tenant; of `*`, all there are. Raises INVALID_FIELD."""
        wanted.check()

        def fetch(after: Key | None, limit: int) -> Sequence[AuditEntry]:
            with self._database.read() as uow:
                return uow.audit.page(
                    None if tenant == EVERY_TENANT else tenant,
                    None if after is None else int(after[0]),
                    limit,
                    wanted,
                )

        scope = f"audit/{tenant}/{wanted.scope}"
        return list_page(scope, page_size, page_token, (0,), fetch, lambda entry: (entry.id,))
