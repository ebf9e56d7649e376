"""The adapter store's RPCs about aliases, as a part of StoreClient."""

from collections.abc import Sequence
from typing import Any

from client.errors import rpc_errors
from client.pages import PAGE_SIZE, pages
from client.registry import Alias, AliasMove, Shadow, TrafficTarget
from client.wire import decode
from protos.multilora.v1 import adapter_store_pb2 as pb


class StoreAliases:
    """Methods of StoreClient. An alias is `acme/support@staging`, or its full resource name."""

    _stub: Any

    async def set_alias(
        self,
        name: str,
        version: int = 0,
        *,
        targets: Sequence[TrafficTarget] = (),
        shadow: Shadow | None = None,
        expected_version: int | None = None,
        expected_revision: int | None = None,
    ) -> Alias:
        """Points an alias at a version, or at `targets` that share its traffic; makes it if it is new.

        `shadow` gets a sampled copy of the requests; None ends one. Only if it is at `expected_version` and
        `expected_revision` now (0: if it is new), where given.
        """
        request = pb.SetAliasRequest(
            name=name,
            version=version,
            targets=[pb.TrafficTarget(version=each.version, weight=each.weight) for each in targets],
            expected_version=expected_version,
            expected_revision=expected_revision,
        )
        if shadow is not None:
            request.shadow.CopyFrom(pb.Shadow(version=shadow.version, sample_rate=shadow.sample_rate))
        with rpc_errors():
            return decode(Alias, await self._stub.SetAlias(request))

    async def promote(
        self,
        adapter: str,
        *,
        from_alias: str = "staging",
        to_alias: str = "production",
        expected_version: int | None = None,
    ) -> Alias:
        """Points one alias at what another points at, if that is `expected_version` (None: whatever)."""
        request = pb.PromoteRequest(
            name=adapter, from_alias=from_alias, to_alias=to_alias, expected_version=expected_version
        )
        with rpc_errors():
            return decode(Alias, await self._stub.Promote(request))

    async def rollback(self, name: str, *, expected_version: int | None = None) -> Alias:
        """Points an alias back at what it pointed at before; `acme/support` is its `production`."""
        request = pb.RollbackRequest(name=name, expected_version=expected_version)
        with rpc_errors():
            return decode(Alias, await self._stub.Rollback(request))

    async def delete_alias(self, name: str, *, expected_version: int | None = None) -> None:
        """Removes an alias; its history stays."""
        request = pb.DeleteAliasRequest(name=name, expected_version=expected_version)
        with rpc_errors():
            await self._stub.DeleteAlias(request)

    async def list_alias_history(self, name: str) -> list[AliasMove]:
        """Every move of an alias, newest first."""
        request = pb.ListAliasHistoryRequest(name=name, page_size=PAGE_SIZE)
        found = pages(self._stub.ListAliasHistory, request)
        return [decode(AliasMove, each) async for page in found for each in page.moves]
