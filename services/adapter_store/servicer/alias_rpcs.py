"""The RPCs of aliases: where requests go, where they went, and back."""

from typing import Any

from protos.multilora.v1 import adapter_store_pb2 as pb
from services.adapter_store.domain.names import (
    PRODUCTION,
    STAGING,
    check_alias,
    parse_adapter,
    parse_alias,
)
from services.adapter_store.servicer import wire
from services.adapter_store.servicer.calling import Context, actor_of, call
from services.adapter_store.servicer.pages import fit_page
from services.adapter_store.store import Store


class AliasRpcs:
    """Set, moved, split, promoted and rolled back."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def SetAlias(self, request: pb.SetAliasRequest, context: Context) -> pb.Alias:
        """See the proto."""
        name, alias = parse_alias(request.name, "name")
        moved = await call(
            self._store.aliases.set,
            name,
            alias,
            request.version,
            _present(request, "expected_version"),
            actor_of(context, "SetAlias"),
            targets=wire.targets_from(request.targets),
            shadow=wire.shadow_from(request),
            expected_revision=_present(request, "expected_revision"),
        )
        return wire.alias(name, moved)

    async def Promote(self, request: pb.PromoteRequest, context: Context) -> pb.Alias:
        """See the proto."""
        name = parse_adapter(request.name, "name")
        moved = await call(
            self._store.aliases.promote,
            name,
            check_alias(request.from_alias or STAGING, "from_alias"),
            check_alias(request.to_alias or PRODUCTION, "to_alias"),
            _present(request, "expected_version"),
            actor_of(context, "Promote"),
        )
        return wire.alias(name, moved)

    async def Rollback(self, request: pb.RollbackRequest, context: Context) -> pb.Alias:
        """See the proto."""
        name, alias = parse_alias(request.name, "name", default=PRODUCTION)
        expected = _present(request, "expected_version")
        actor = actor_of(context, "Rollback")
        return wire.alias(name, await call(self._store.aliases.rollback, name, alias, expected, actor))

    async def DeleteAlias(self, request: pb.DeleteAliasRequest, context: Context) -> pb.DeleteAliasResponse:
        """See the proto."""
        name, alias = parse_alias(request.name, "name")
        expected = _present(request, "expected_version")
        await call(self._store.aliases.delete, name, alias, expected, actor_of(context, "DeleteAlias"))
        return pb.DeleteAliasResponse()

    async def ListAliasHistory(
        self, request: pb.ListAliasHistoryRequest, context: Context
    ) -> pb.ListAliasHistoryResponse:
        """See the proto."""
        name, alias = parse_alias(request.name, "name")
        page = await call(self._store.aliases.history, name, alias, request.page_size, request.page_token)
        messages, next_page_token = fit_page(page, wire.alias_move)
        return pb.ListAliasHistoryResponse(moves=messages, next_page_token=next_page_token)


def _present(request: Any, field: str) -> int | None:
    """The value of an `optional` field; None if it is absent."""
    value: int | None = getattr(request, field) if request.HasField(field) else None
    return value
