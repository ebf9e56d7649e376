"""EngineKeeper: how often an engine is started again, after what pause, and what the next one is told."""

import asyncio

import pytest

from services.common.errors import Code, Reason, ServiceError
from services.inference.engine_keeper import SOUND_S, EngineGivenUpError, EngineKeeper, describe_exit
from services.inference.messages import Failed, SetTenantQuota
from tests.fakes import FakeEngine

NO_WEIGHTS = Failed("", ServiceError(Code.INVALID_ARGUMENT, Reason.INVALID_FIELD, "no weights"))


class Unstartable(FakeEngine):
    """Says why it cannot start, and ends."""

    def __init__(self):
        super().__init__(ready=NO_WEIGHTS)

    def join(self, timeout_s):
        if self._thread.is_alive():
            self.die()
        return super().join(timeout_s)


class Listener:
    """Keeps what it hears, in order."""

    def __init__(self):
        self.heard = asyncio.Queue()

    async def engine_lost(self, why):
        self.heard.put_nowait(why)

    async def engine_ready(self, ready):
        self.heard.put_nowait("ready")


class World:
    """A keeper over fake engines, one after the other, and its clock and pauses."""

    def __init__(self, engines, max_restarts):
        self._engines = iter(engines)
        self.engine = None
        self.now_s = 0.0
        self.pauses = []
        self.listener = Listener()
        self.keeper = EngineKeeper(self._next, max_restarts, lambda: self.now_s, self._pause)
        self.keeping = asyncio.create_task(self.keeper.keep(self.listener))

    def _next(self):
        self.engine = next(self._engines)
        return self.engine

    async def _pause(self, seconds):
        self.pauses.append(seconds)

    async def ready(self):
        """Returns when an engine takes requests; what was heard before."""
        heard = []
        while (event := await self.listener.heard.get()) != "ready":
            heard.append(event)
        return heard

    async def crash(self):
        self.engine.die()
        return await self.ready()

    async def end(self):
        self.keeping.cancel()
        await asyncio.gather(self.keeping, return_exceptions=True)
        await self.keeper.shut_down()
        self.keeper.check_integrity()


async def test_a_crash_is_told_at_once_and_then_how_it_ended():
    world = World([FakeEngine(), FakeEngine()], 1)
    await world.ready()
    assert await world.crash() == [
        "the engine process has crashed and is being started again",
        "the engine process has crashed (killed by SIGKILL) and is being started again",
    ]
    await world.end()


async def test_pauses_grow_and_a_loop_of_crashes_is_given_up():
    world = World([FakeEngine() for _ in range(4)], 3)
    await world.ready()
    for _ in range(3):
        await world.crash()
    world.engine.die()
    with pytest.raises(EngineGivenUpError, match=r"killed by SIGKILL.*3 times.*--max-engine-restarts"):
        await world.keeping
    assert world.pauses == [0.5, 1.0, 2.0]
    await world.end()


async def test_an_engine_that_served_long_enough_clears_the_count():
    world = World([FakeEngine() for _ in range(3)], 1)
    await world.ready()
    await world.crash()
    world.now_s += SOUND_S
    await world.crash()
    assert world.pauses == [0.5, 0.5]
    await world.end()


async def test_an_engine_that_cannot_be_started_again_counts_as_a_crash(caplog):
    world = World([FakeEngine(), Unstartable(), Unstartable()], 2)
    await world.ready()
    world.engine.die()
    with pytest.raises(EngineGivenUpError):
        await world.keeping
    assert caplog.text.count("could not be started again: no weights") == 2
    await world.end()


async def test_a_first_engine_that_cannot_be_started_is_not_tried_again():
    world = World([Unstartable()], 5)
    with pytest.raises(ServiceError, match="no weights"):
        await world.keeping
    await world.end()


async def test_the_next_engine_is_told_every_quota_that_holds():
    world = World([FakeEngine(), FakeEngine()], 1)
    await world.ready()
    for tenant, num_bytes in (("acme", 100), ("globex", 200), ("acme", 0)):
        world.keeper.set_tenant_quota(tenant, num_bytes)
        await world.engine.next_command()
    await world.crash()
    assert await world.engine.next_command() == SetTenantQuota("globex", 200)
    await world.end()


async def test_nothing_is_held_while_there_is_no_engine():
    world = World([FakeEngine()], 0)
    await world.ready()
    world.engine.die()
    with pytest.raises(EngineGivenUpError):
        await world.keeping
    assert world.keeper.is_lost
    assert await world.keeper.list_held() == ()
    with pytest.raises(ServiceError, match="engine process is gone"):
        await world.keeper.list_resident()
    await world.end()


@pytest.mark.parametrize(
    ("exit_code", "words"),
    [(None, "it hung and was killed"), (3, "exit code 3"), (-9, "killed by SIGKILL"), (-99, "signal 99")],
)
def test_how_a_process_ended(exit_code, words):
    assert words in describe_exit(exit_code)
