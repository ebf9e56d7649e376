"""Puts the RPCs of every noun together, behind their guard, and into a server."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import grpc

from protos.multilora.v1 import adapter_store_pb2 as pb
from protos.multilora.v1 import adapter_store_pb2_grpc as pb_grpc
from services.adapter_store.servicer.access_rpcs import AccessRpcs
from services.adapter_store.servicer.access_rules import RULES
from services.adapter_store.servicer.adapter_rpcs import AdapterRpcs
from services.adapter_store.servicer.alias_rpcs import AliasRpcs
from services.adapter_store.servicer.base_model_rpcs import BaseModelRpcs
from services.adapter_store.servicer.calling import call
from services.adapter_store.servicer.drain import Drain
from services.adapter_store.servicer.import_rpcs import ImportRpcs
from services.adapter_store.servicer.places import StorePlaces
from services.adapter_store.servicer.upkeep_rpcs import UpkeepRpcs
from services.adapter_store.servicer.upload_rpcs import UploadRpcs
from services.adapter_store.servicer.version_rpcs import VersionRpcs
from services.adapter_store.servicer.watch_rpcs import WatchRpcs
from services.adapter_store.servicer.watches import Watches
from services.adapter_store.store import Store
from services.common.access_guard import AccessGuard
from services.common.caller import Caller
from services.common.gate import Gate, TokenGate
from services.common.running_calls import RunningCalls

# Half as many as there are connections to the database: a tenant's calls that wait for each other in it leave
# the rest to others.
CALLS_AT_ONCE = 10

SERVICE_NAME: str = pb.DESCRIPTOR.services_by_name["AdapterStoreService"].full_name


def add_to_server(store: Store, server: grpc.aio.Server, gate: Gate) -> Drain:
    """Registers the service of `store`, behind `gate`, with a server that has not started.

    Returns how to drain it.
    """
    calls = RunningCalls()
    watches = Watches(store.changes, store.change_signal)
    parts = (
        BaseModelRpcs(store),
        AdapterRpcs(store),
        UploadRpcs(store),
        VersionRpcs(store),
        AliasRpcs(store),
        ImportRpcs(store),
        UpkeepRpcs(store),
        AccessRpcs(store),
        WatchRpcs(watches),
    )
    service = pb.DESCRIPTOR.services_by_name["AdapterStoreService"]
    guard = AccessGuard(
        _together(parts, service, calls),
        service,
        RULES,
        gate,
        StorePlaces(store),
        calls_at_once=CALLS_AT_ONCE,
    )
    pb_grpc.add_AdapterStoreServiceServicer_to_server(guard, server)
    return Drain(calls, watches)


def _together(parts: Sequence[Any], service: Any, calls: RunningCalls) -> SimpleNamespace:
    """Every RPC of `service` by name, from the one part that has it; `calls` counts what has an end."""
    found = {
        method.name: [part for part in parts if hasattr(part, method.name)] for method in service.methods
    }
    assert all(len(owners) == 1 for owners in found.values()), "each RPC is one part's"
    handlers = {name: getattr(owners[0], name) for name, owners in found.items()}
    return SimpleNamespace(
        **{name: handler if name == "Watch" else calls.counted(handler) for name, handler in handlers.items()}
    )


def store_gate(store: Store) -> Gate:
    """Lets in who has a token of `store`."""

    async def authenticate(secret: str) -> Caller:
        return (await call(store.tokens.authenticate, secret)).caller()

    return TokenGate(authenticate)
