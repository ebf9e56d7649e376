"""How long a token stays good without the store being asked, and what ends that."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from services.common.caller import Caller, Role
from services.common.errors import ServiceError
from services.common.gate import bad_token
from services.inference.adapters.store_errors import store_unavailable
from services.inference.caller_cache import FRESH_S, GRACE_S, MAX_STRANGERS, CallerCache

START = datetime(2030, 1, 1, tzinfo=UTC)


class World:
    """A store that knows `callers`, a clock, and the cache between."""

    def __init__(self, max_callers: int = 100) -> None:
        self.now_s = 0.0
        self.asked: list[str] = []
        self.known: list[bool] = []
        self.is_down = False
        self.callers = {"a": Caller("ta", "acme", Role.READER), "b": Caller("tb", "beta", Role.ADMIN)}
        self.before_answer = lambda: None
        self.cache = CallerCache(
            self.authenticate,
            max_callers=max_callers,
            clock=lambda: self.now_s,
            now=lambda: START + timedelta(seconds=self.now_s),
        )

    async def authenticate(self, secret: str, *, is_known: bool) -> Caller:
        self.asked.append(secret)
        self.known.append(is_known)
        if self.is_down:
            raise store_unavailable("down")
        if secret not in self.callers:
            raise bad_token("it is not known here")
        caller = self.callers[secret]
        self.before_answer()
        return caller

    async def reason(self, secret: str) -> str:
        with pytest.raises(ServiceError) as caught:
            await self.cache.caller(secret)
        self.cache.check_integrity()
        return caught.value.reason


async def test_a_good_token_is_asked_for_once_in_a_while():
    world = World()
    assert (await world.cache.caller("a")).name == "ta"
    world.now_s = FRESH_S - 0.1
    assert (await world.cache.caller("a")).tenant == "acme"
    assert world.asked == ["a"]
    world.now_s = FRESH_S
    await world.cache.caller("a")
    assert world.asked == ["a", "a"]
    assert await world.reason("stranger") == "BAD_TOKEN"
    assert "'a'" not in repr(vars(world.cache))


async def test_a_revoked_token_is_no_good_at_once_when_its_revocation_is_heard():
    world = World()
    await world.cache.caller("a")
    await world.cache.caller("b")
    del world.callers["a"]
    world.cache.change("TOKEN_REVOKED", "ta")
    world.cache.change("TOKEN_REVOKED", "never seen")
    world.cache.change("ALIAS_CHANGED", "tb")
    assert await world.reason("a") == "BAD_TOKEN"
    await world.cache.caller("b")
    assert world.asked == ["a", "b", "a"]


async def test_an_answer_that_a_revocation_overtook_is_not_remembered():
    world = World()
    world.before_answer = lambda: world.cache.revoke("ta")
    await world.cache.caller("a")
    del world.callers["a"]
    assert await world.reason("a") == "BAD_TOKEN"


async def test_while_the_store_is_silent_a_known_token_stays_good_for_a_time():
    world = World()
    await world.cache.caller("a")
    world.is_down = True
    world.now_s = GRACE_S - 1
    assert (await world.cache.caller("a")).name == "ta"
    assert await world.reason("b") == "STORE_UNAVAILABLE"
    world.now_s = GRACE_S
    assert await world.reason("a") == "STORE_UNAVAILABLE"
    assert world.known == [False, True, False, False], "whose answer is remembered need not wait"


async def test_no_token_outlives_its_expiry():
    world = World()
    world.callers["a"] = Caller("ta", "acme", Role.READER, START + timedelta(seconds=3))
    await world.cache.caller("a")
    world.now_s = 3
    assert await world.reason("a") == "BAD_TOKEN"
    world.is_down, world.now_s = True, 100
    assert await world.reason("a") == "BAD_TOKEN"


async def test_a_refusal_after_the_fresh_time_is_final():
    world = World()
    caller = world.callers.pop("a")
    world.callers["a"] = caller
    await world.cache.caller("a")
    del world.callers["a"]
    world.now_s = FRESH_S
    assert await world.reason("a") == "BAD_TOKEN"
    world.is_down = True
    assert await world.reason("a") == "STORE_UNAVAILABLE"


async def test_the_cache_is_bounded_and_can_be_forgotten():
    world = World(max_callers=2)
    for number in range(5):
        world.callers[f"s{number}"] = Caller(f"t{number}", "acme", Role.READER)
        await world.cache.caller(f"s{number}")
        world.cache.check_integrity()
    assert repr(world.cache) == "CallerCache(callers=2)"
    world.cache.forget_all()
    world.cache.check_integrity()
    assert repr(world.cache) == "CallerCache(callers=0)"


async def test_the_store_is_asked_about_so_many_strangers_at_once_and_of_those_it_knows_without_waiting():
    asked, may_answer, are_all_asked = [], asyncio.Event(), asyncio.Event()

    async def authenticate(secret: str, *, is_known: bool) -> Caller:
        asked.append(secret)
        if secret == "a":
            return Caller("ta", "acme", Role.READER)
        if len(asked) == MAX_STRANGERS + 1:
            are_all_asked.set()
        await may_answer.wait()
        raise bad_token("it is not known here")

    now_s = 0.0
    cache = CallerCache(authenticate, clock=lambda: now_s)
    assert (await cache.caller("a")).name == "ta"
    strangers = [asyncio.create_task(cache.caller(f"made up {i}")) for i in range(MAX_STRANGERS + 3)]
    await asyncio.wait_for(are_all_asked.wait(), 20)
    now_s = FRESH_S
    assert (await asyncio.wait_for(cache.caller("a"), 20)).name == "ta"
    assert len(asked) == MAX_STRANGERS + 2
    may_answer.set()
    refused = await asyncio.gather(*strangers, return_exceptions=True)
    assert {error.reason for error in refused} == {"BAD_TOKEN"}
    assert len(asked) == len(strangers) + 2
    cache.check_integrity()
