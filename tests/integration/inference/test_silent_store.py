"""What a store that takes connections and never answers costs those whose answers are remembered."""

import asyncio
from functools import partial

import pytest

from client import Role, StoreClient
from services.adapter_store.servicer import SERVICE_NAME, add_to_server
from services.adapter_store.settings import PlaceSettings
from services.adapter_store.store import open_store
from services.common.errors import Reason, ServiceError
from services.common.gate import OpenGate
from services.common.server import Server
from services.inference.adapters.store_client import AsyncStoreClient
from services.inference.adapters.store_link import StoreLink
from services.inference.caller_cache import CallerCache
from services.inference.tenant_directory import TenantDirectory
from services.inference.verified_resolver import VerifiedResolver
from tests.integration.inference.test_adapter_store_client import CONFIG
from tests.stalling_proxy import StallingProxy
from tests.unit.inference.adapters.lora_files import Q0, linear, write

# Long enough for a call on loopback, many times over.
TIMEOUT_S = 3.0


class Way:
    """What a request asks the store, in its order, all behind a proxy; nothing is fresh for any time."""

    def __init__(self, address):
        self.now_s = {CallerCache: 0.0, TenantDirectory: 0.0}
        self.client = AsyncStoreClient(StoreLink(address), "tiny", TIMEOUT_S)
        self.callers = CallerCache(self.client.authenticate, clock=partial(self._clock, CallerCache, 6.0))
        self.directory = TenantDirectory(
            self.client.tenant, clock=partial(self._clock, TenantDirectory, 31.0)
        )
        self.resolver = VerifiedResolver(self.client, self.directory, "tiny")

    def _clock(self, whose, step_s):
        self.now_s[whose] += step_s
        return self.now_s[whose]

    async def go(self, secret, name):
        caller = await self.callers.caller(secret)
        resolution = await self.resolver.resolve(name)
        quotas = await self.directory.quotas("acme")
        return caller.tenant, resolution.adapter.version_name, quotas


@pytest.fixture
async def store_address(tmp_path):
    with open_store(PlaceSettings(data_dir=tmp_path / "store"), 1 << 30) as store:
        server = Server("127.0.0.1:0", SERVICE_NAME)
        add_to_server(store, server.inner, OpenGate())
        yield await server.start()
        await server.inner.stop(None)


async def test_a_silent_store_costs_one_timeout_and_then_none(store_address, tmp_path):
    async with StallingProxy.to(store_address) as proxy, StoreClient(store_address) as publisher:
        way = Way(proxy.address)
        await way.client.register_base_model("tiny", "d" * 64, CONFIG, 64)
        await publisher.push(write(tmp_path / "a", linear(Q0, 4)), "acme/support")
        secret = (await publisher.create_token("acme", Role.READER)).secret
        first = await way.go(secret, "acme/support")
        proxy.stall()
        assert await asyncio.gather(*(way.go(secret, "acme/support") for _ in range(5))) == [first] * 5
        # One call of each request was made and timed out or was given up; the rest came from memory.
        assert "SILENT" in repr(way.client)
        asked = way.client.stats().resolve_calls
        for _ in range(3):
            assert await way.go(secret, "acme/support") == first
        assert way.client.stats().resolve_calls == asked == 1, "no name was asked for"
        with pytest.raises(ServiceError) as caught:
            await way.client.resolve("acme/other")
        assert caught.value.reason is Reason.STORE_UNAVAILABLE
        proxy.resume()
        while "SILENT" in repr(way.client):
            await way.client.tenant("acme")
        assert await way.go(secret, "acme/support") == first
        assert way.client.stats().resolve_calls > asked, "it is asked again"
        assert "silences=1)" in repr(way.client)
        await way.client.close()
