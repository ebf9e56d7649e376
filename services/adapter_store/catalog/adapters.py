"""Creates, shows and changes adapters."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from services.adapter_store.catalog.lookup import find_adapter, find_base_model, lock_adapter
from services.adapter_store.catalog.quotas import check_adapter_quota
from services.adapter_store.domain.actor import STORE, Actor
from services.adapter_store.domain.adapter import (
    MAX_DESCRIPTION_CHARS,
    MAX_DISPLAY_NAME_CHARS,
    Adapter,
    stale_etag,
)
from services.adapter_store.domain.fields import check_labels, check_text, quoted
from services.adapter_store.domain.listing import Key, Listing, list_page
from services.adapter_store.domain.names import AdapterName
from services.adapter_store.metadata import Database
from services.common.errors import Code, Reason, ServiceError, invalid_field

UPDATABLE = ("display_name", "description", "labels")


class Adapters:
    """Adapters, by name. `now` is the clock."""

    def __init__(self, database: Database, now: Callable[[], datetime]) -> None:
        self._database = database
        self._now = now

    def create(
        self,
        name: AdapterName,
        base_model: str,
        display_name: str,
        description: str,
        labels: dict[str, str],
        actor: Actor = STORE,
    ) -> Adapter:
        """A new adapter. Raises INVALID_FIELD, BASE_MODEL_NOT_FOUND, ADAPTER_EXISTS, QUOTA_EXCEEDED."""
        changes = _checked({"display_name": display_name, "description": description, "labels": labels})
        if not base_model:
            raise invalid_field(
                "adapter.base_model", "must name the base model that the adapter was trained on"
            )
        with self._database.write(actor) as uow:
            find_base_model(uow, base_model)
            if uow.adapters.get(name) is not None:
                raise _exists(name)
            check_adapter_quota(uow, name.tenant)
            # Another transaction may have been faster.
            if not uow.adapters.insert(name, base_model, **changes, now=self._now()):
                raise _exists(name)
            created = find_adapter(uow, name)
            uow.audit.add(name.tenant, str(name), f"of base model {base_model}")
            uow.commit()
        return created

    def get(self, name: AdapterName) -> Adapter:
        """The adapter of this name. Raises ADAPTER_NOT_FOUND."""
        with self._database.read() as uow:
            return find_adapter(uow, name)

    def list(self, tenant: str | None, page_size: int, page_token: str) -> Listing[Adapter]:
        """Adapters by tenant and name, of one tenant or of all."""

        def fetch(after: Key | None, limit: int) -> Sequence[Adapter]:
            with self._database.read() as uow:
                return uow.adapters.page(
                    tenant, None if after is None else (str(after[0]), str(after[1])), limit
                )

        return list_page(
            f"adapters/{tenant or ''}",
            page_size,
            page_token,
            ("", ""),
            fetch,
            lambda adapter: (adapter.name.tenant, adapter.name.adapter),
        )

    def update(self, name: AdapterName, etag: str, changes: dict[str, Any], actor: Actor = STORE) -> Adapter:
        """Sets the fields in `changes` (keys from UPDATABLE).

        A non-empty `etag` must be the current one, else STALE_ETAG. Raises INVALID_FIELD, ADAPTER_NOT_FOUND.
        """
        checked = _checked(changes)
        with self._database.write(actor) as uow:
            adapter = lock_adapter(uow, name)
            if etag and etag != adapter.etag:
                raise stale_etag(etag, adapter)
            if not uow.adapters.update(adapter, checked, self._now()):
                raise stale_etag(etag, adapter)
            updated = find_adapter(uow, name)
            uow.audit.add(name.tenant, str(name), ", ".join(sorted(checked)))
            uow.commit()
        return updated


def _exists(name: AdapterName) -> ServiceError:
    return ServiceError(
        Code.ALREADY_EXISTS,
        Reason.ADAPTER_EXISTS,
        f"{name} exists already: upload a new version to it, or choose another name",
        field="adapter.name",
    )


def _checked(changes: dict[str, Any]) -> dict[str, Any]:
    checked: dict[str, Any] = {}
    for field, value in changes.items():
        if field == "labels":
            checked[field] = check_labels(value, "adapter.labels")
        elif field in UPDATABLE:
            limit = MAX_DISPLAY_NAME_CHARS if field == "display_name" else MAX_DESCRIPTION_CHARS
            checked[field] = check_text(value, f"adapter.{field}", max_chars=limit)
        else:
            raise invalid_field(
                "update_mask", f"{quoted(field)} cannot be updated: name {', '.join(UPDATABLE)}"
            )
    return checked
