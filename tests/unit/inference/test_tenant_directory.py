"""When the store is asked for a tenant's settings, and what holds while it does not answer."""

import pytest

from services.common.errors import ServiceError
from services.inference.adapters.store_errors import store_unavailable
from services.inference.signing_rules import SigningRules
from services.inference.tenant_directory import FRESH_S, TenantDirectory, TenantSettings
from services.inference.tenant_traffic import TenantQuotas


class World:
    """A store with one quota, a clock, and the directory between."""

    def __init__(self) -> None:
        self.now_s, self.quota, self.num_asked, self.is_down = 0.0, 1, 0, False
        self.before_answer = lambda: None
        self.rules, self.known = SigningRules(), []
        self.directory = TenantDirectory(self.fetch, max_tenants=3, clock=lambda: self.now_s)

    async def fetch(self, name: str, *, is_known: bool) -> TenantSettings:
        self.num_asked += 1
        self.known.append(is_known)
        if self.is_down:
            raise store_unavailable("down")
        answer = TenantSettings(TenantQuotas(max_queued_requests=self.quota), self.rules)
        self.before_answer()
        return answer

    async def ask(self, tenant: str = "acme") -> int:
        quotas = await self.directory.quotas(tenant)
        self.directory.check_integrity()
        return quotas.max_queued_requests


async def test_quotas_are_remembered_until_they_change():
    world = World()
    assert (await world.ask(), await world.ask(), world.num_asked) == (1, 1, 1)
    world.quota = 2
    world.directory.change("TENANT_UPDATED", "tenants/other")
    world.directory.change("ALIAS_CHANGED", "tenants/acme/adapters/a/aliases/b")
    assert await world.ask() == 1
    world.directory.change("TENANT_UPDATED", "tenants/acme")
    assert await world.ask() == 2
    world.quota = 3
    world.now_s = FRESH_S
    assert await world.ask() == 3


async def test_an_answer_that_a_change_overtook_is_asked_for_again():
    world = World()
    world.before_answer = lambda: world.directory.change("TENANT_UPDATED", "tenants/acme")
    await world.ask()
    world.quota, world.before_answer = 2, lambda: None
    assert await world.ask() == 2


async def test_while_the_store_is_silent_what_it_last_said_holds():
    world = World()
    await world.ask()
    world.is_down = True
    world.directory.forget_all()
    assert await world.ask() == 1
    for ask in (world.directory.quotas, world.directory.rules):
        with pytest.raises(ServiceError) as caught:
            await ask("never heard of")
        assert caught.value.reason == "STORE_UNAVAILABLE"
    assert world.known == [False, True, False, False], "whose answer is remembered need not wait"


async def test_a_tenants_quotas_and_keys_are_one_question():
    world = World()
    world.rules = SigningRules({"ci": b"k" * 32}, required=True)
    assert (await world.directory.rules("acme"), await world.ask(), world.num_asked) == (world.rules, 1, 1)
    world.is_down, world.now_s = True, FRESH_S
    assert await world.directory.rules("acme") == world.rules
    world.is_down, world.rules = False, SigningRules()
    assert await world.directory.rules("acme") == SigningRules()


async def test_no_more_is_remembered_than_may_be():
    world = World()
    for number in range(10):
        await world.ask(f"t{number}")
    assert repr(world.directory) == "TenantDirectory(tenants=3)"
