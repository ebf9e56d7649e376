"""Puts the servicer behind its guard and into a server."""

from collections.abc import Awaitable, Callable

import grpc

from protos.multilora.v1 import adapter_store_pb2 as pb
from protos.multilora.v1 import adapter_store_pb2_grpc as pb_grpc
from services.adapter_store.servicer.access_rules import RULES
from services.adapter_store.servicer.calling import call
from services.adapter_store.servicer.places import StorePlaces
from services.adapter_store.servicer.servicer import AdapterStoreServicer
from services.adapter_store.store import Store
from services.common.access_guard import AccessGuard
from services.common.caller import Caller
from services.common.gate import Gate, TokenGate

SERVICE_NAME: str = pb.DESCRIPTOR.services_by_name["AdapterStoreService"].full_name


def add_to_server(store: Store, server: grpc.aio.Server, gate: Gate) -> Callable[[], Awaitable[None]]:
    """Registers the service of `store`, behind `gate`, with a server that has not started.

    Returns how to drain it.
    """
    servicer = AdapterStoreServicer(store)
    service = pb.DESCRIPTOR.services_by_name["AdapterStoreService"]
    guard = AccessGuard(servicer, service, RULES, gate, StorePlaces(store))
    pb_grpc.add_AdapterStoreServiceServicer_to_server(guard, server)
    return servicer.drain


def store_gate(store: Store) -> Gate:
    """Lets in who has a token of `store`."""

    async def authenticate(secret: str) -> Caller:
        return (await call(store.tokens.authenticate, secret)).caller()

    return TokenGate(authenticate)
