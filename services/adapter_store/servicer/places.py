"""Whose things the store's requests name, for the guard: by name, by upload, by token."""

import asyncio
from typing import Any

from services.adapter_store.catalog.lookup import no_adapter, no_tenant
from services.adapter_store.catalog.tokens import no_token
from services.adapter_store.domain.names import parse_reference, parse_tenant, parse_tenant_or_all
from services.adapter_store.store import Store
from services.adapter_store.uploads.lookup import no_upload
from services.common.access_guard import operators_only
from services.common.access_rule import Place, Rule
from services.common.caller import EVERY_TENANT


class StorePlaces:
    """The kinds of name in the store's access rules, each with the words for one that is not there."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def place(self, rule: Rule, request: Any) -> Place | None:
        """See `services.common.access_guard.Places`."""
        match rule.kind:
            case "adapter or key" if request.HasField("key"):
                return None
            case "adapter" | "adapter or key":
                name = parse_reference(_named(request, rule.field), rule.field).adapter
                return Place(name.tenant, no_adapter(name))
            case "upload":
                tenant = await asyncio.to_thread(self._store.uploads.tenant_of, request.upload_id)
                return Place(tenant or "", no_upload(request.upload_id))
            case "token":
                tenant = await asyncio.to_thread(self._store.tokens.tenant_of, request.token_id)
                return Place(tenant or "", no_token(request.token_id))
            case "tenant or all" if not request.parent:
                return None
            case "tenant or *":
                tenant = parse_tenant_or_all(_named(request, rule.field), rule.field)
                if tenant == EVERY_TENANT:
                    return Place(tenant, operators_only("tenants/*", "name your own tenant"))
            case _:
                tenant = parse_tenant(_named(request, rule.field), rule.field)
        return Place(tenant, no_tenant(tenant))


def _named(request: Any, field: str) -> str:
    for part in field.split("."):
        request = getattr(request, part)
    return str(request)
