"""Watch without a server: what each watcher is given, and when."""

import asyncio
import contextlib
from datetime import UTC, datetime, timedelta

import pytest

from services.adapter_store.catalog.changes import MAX_BATCH, Changes
from services.adapter_store.domain.change import ChangeKind
from services.adapter_store.domain.resume_token import MAX_TOKEN_CHARS, Position, decode, encode
from services.adapter_store.metadata import ChangeSignal, Database
from services.adapter_store.servicer.watches import Watches
from services.common.errors import Reason, ServiceError

pytestmark = pytest.mark.timeout(30)


@pytest.fixture
def database(database_url):
    with contextlib.closing(Database(database_url)) as database:
        yield database


@pytest.fixture
def changes(database):
    return Changes(database, lambda: datetime.now(UTC))


@pytest.fixture
def watches(database, changes):
    return Watches(changes, database.change_signal, heartbeat_s=3600.0)


def commit(database, *resources, tenant="acme"):
    with database.write() as uow:
        for resource in resources:
            uow.changes.add(ChangeKind.ALIAS_CHANGED, tenant, resource)
        uow.commit()


class CountedChanges(Changes):
    """Knows how often the table was read."""

    num_reads = 0

    def read(self, position, tenant):
        self.num_reads += 1
        return super().read(position, tenant)


class Watcher:
    """One stream, read to wherever the test wants."""

    def __init__(self, watches, token="", tenant=None):
        self._stream = watches.stream(token, tenant)
        self.token = token

    async def next(self):
        response = await anext(self._stream)
        self.token = response.resume_token
        return response

    async def names(self, count):
        """The next `count` changes' names; fails if more come with them."""
        names = []
        while len(names) < count:
            names += [change.name for change in (await self.next()).changes]
        assert len(names) == count
        return names

    async def close(self):
        await self._stream.aclose()


async def test_a_new_watcher_sees_what_comes_after_it_at_once(database, watches):
    commit(database, "before")
    watcher = Watcher(watches)
    first = await watcher.next()
    assert (list(first.changes), first.reset, first.caught_up) == ([], False, True)
    reading = asyncio.create_task(watcher.names(3))
    await asyncio.to_thread(commit, database, "a", "b")
    await asyncio.to_thread(commit, database, "c")
    assert await reading == ["a", "b", "c"]
    await watcher.close()
    assert repr(watches) == "Watches(open, streams=0)"


async def test_a_change_says_kind_name_and_time(database, watches):
    watcher = Watcher(watches)
    await watcher.next()
    commit(database, "tenants/acme/adapters/support/aliases/x")
    (change,) = (await watcher.next()).changes
    assert (change.kind, change.name) == (4, "tenants/acme/adapters/support/aliases/x")
    assert abs(change.time.ToDatetime(tzinfo=UTC) - datetime.now(UTC)) < timedelta(minutes=1)
    await watcher.close()


async def test_what_is_rolled_back_is_never_seen(database, watches):
    watcher = Watcher(watches)
    await watcher.next()
    with database.write() as uow:
        uow.changes.add(ChangeKind.ALIAS_CHANGED, "acme", "not committed")
    commit(database, "committed")
    assert await watcher.names(1) == ["committed"]
    await watcher.close()


async def test_a_token_goes_on_exactly_after_what_was_seen(database, watches):
    watcher = Watcher(watches)
    await watcher.next()
    names = [f"n{i}" for i in range(2 * MAX_BATCH + 10)]
    commit(database, *names)
    seen = [change.name for change in (await watcher.next()).changes]
    await watcher.close()
    assert seen == names[:MAX_BATCH]
    again = Watcher(watches, watcher.token)
    first = await again.next()
    assert (first.reset, first.caught_up) == (False, False)
    responses = [await again.next(), await again.next()]
    assert [len(response.changes) for response in responses] == [MAX_BATCH, 10]
    assert [response.caught_up for response in responses] == [False, True]
    seen += [change.name for response in responses for change in response.changes]
    assert seen == names
    await again.close()


async def test_one_who_missed_nothing_is_told_that_he_has_all(database, watches):
    commit(database, "a")
    first = Watcher(watches)
    await first.next()
    again = Watcher(watches, first.token)
    assert (await again.next()).caught_up
    for watcher in (first, again):
        await watcher.close()


async def test_one_tenant_s_watcher_sees_that_tenant_only_and_still_moves_on(database, watches):
    watcher = Watcher(watches, tenant="acme")
    await watcher.next()
    commit(database, "theirs", tenant="zoo")
    commit(database, "ours")
    assert await watcher.names(1) == ["ours"]
    commit(database, *(f"t{i}" for i in range(MAX_BATCH + 1)), tenant="zoo")
    await watcher.close()
    again = Watcher(watches, watcher.token, tenant="acme")
    assert not (await again.next()).changes
    caught_up = await again.next()
    assert (list(caught_up.changes), caught_up.caught_up) == ([], True)
    assert decode(caught_up.resume_token).sequence == MAX_BATCH + 3
    await again.close()


async def test_heartbeats_carry_a_token(database, changes):
    watches = Watches(changes, database.change_signal, heartbeat_s=0.01)
    watcher = Watcher(watches)
    await watcher.next()
    response = await watcher.next()
    assert (list(response.changes), response.caught_up) == ([], True)
    assert decode(response.resume_token).sequence == 0
    await watcher.close()


async def test_without_a_signal_watchers_poll(database, changes):
    nobody_rings = ChangeSignal()  # not the database's own, whose thread may find that it is live after all
    nobody_rings.is_live = False
    watches = Watches(changes, nobody_rings, heartbeat_s=3600.0)
    watcher = Watcher(watches)
    await watcher.next()
    reading = asyncio.create_task(watcher.names(1))
    await asyncio.to_thread(commit, database, "a")
    assert await reading == ["a"]
    await watcher.close()


class TestReset:
    async def reset(self, watches, token):
        watcher = Watcher(watches, token)
        response = await watcher.next()
        await watcher.close()
        assert not response.changes
        return response.reset

    async def test_a_token_older_than_what_is_kept(self, database, changes, watches):
        watcher = Watcher(watches)
        await watcher.next()
        commit(database, "a"), commit(database, "b")
        await watcher.next()
        await watcher.close()
        old = encode(Position(decode(watcher.token).database_id, 1))
        assert not await self.reset(watches, old)
        assert changes.trim_changes(timedelta(hours=1)) == 0
        assert changes.trim_changes(timedelta(seconds=-1)) == 2
        assert await self.reset(watches, old)
        assert not await self.reset(watches, watcher.token), "it had seen everything"
        commit(database, "c")
        assert await self.reset(watches, old)
        again = Watcher(watches, watcher.token)
        assert not (await again.next()).reset
        assert await again.names(1) == ["c"]
        await again.close()

    async def test_a_watcher_overtaken_by_the_trimming(self, database, changes, watches):
        watcher = Watcher(watches)
        await watcher.next()
        commit(database, "a"), commit(database, "b")
        changes.trim_changes(timedelta(seconds=-1))
        commit(database, "c")
        response = await watcher.next()
        assert (response.reset, list(response.changes)) == (True, [])
        commit(database, "d")
        assert await watcher.names(1) == ["d"]
        await watcher.close()

    async def test_a_token_of_another_database_or_of_the_future(self, database, watches):
        watcher = Watcher(watches)
        await watcher.next()
        await watcher.close()
        here = decode(watcher.token)
        assert await self.reset(watches, encode(Position("other", 0)))
        assert await self.reset(watches, encode(Position(here.database_id, 1)))

    @pytest.mark.parametrize(
        "token", ["x", "é", "W10", "bnVsbA", encode(Position("d", -1)), "A" * (MAX_TOKEN_CHARS + 1)]
    )
    async def test_what_is_no_token(self, watches, token):
        with pytest.raises(ServiceError) as caught:
            await Watcher(watches, token).next()
        assert (caught.value.reason, caught.value.field) == (Reason.INVALID_FIELD, "resume_token")


async def test_closing_ends_every_stream(watches):
    watchers = [Watcher(watches) for _ in range(3)]
    for watcher in watchers:
        await watcher.next()
    reading = [asyncio.create_task(watcher.next()) for watcher in watchers]
    await asyncio.sleep(0)
    watches.close()
    for task in reading:
        with pytest.raises(ServiceError) as caught:
            await task
        assert caught.value.reason is Reason.DRAINING
    assert repr(watches) == "Watches(closing, streams=0)"


async def test_watchers_at_the_same_place_share_a_read(database):
    changes = CountedChanges(database, lambda: datetime.now(UTC))
    watches = Watches(changes, database.change_signal, heartbeat_s=3600.0)
    watchers = [Watcher(watches, tenant=tenant) for tenant in ("acme", "beta") for _ in range(50)]
    await asyncio.gather(*(watcher.next() for watcher in watchers))
    waiting = [asyncio.create_task(watcher.names(1)) for watcher in watchers]
    await asyncio.gather(*(asyncio.sleep(0) for _ in range(3)))
    changes.num_reads = 0
    commit(database, "x")
    assert await asyncio.gather(*waiting[:50]) == [["x"]] * 50
    commit(database, "y", tenant="beta")
    assert await asyncio.gather(*waiting[50:]) == [["y"]] * 50
    assert changes.num_reads < 20
    for watcher in watchers:
        await watcher.close()


async def test_who_leaves_a_shared_read_does_not_end_it(database, watches):
    first, second = Watcher(watches), Watcher(watches)
    await asyncio.gather(first.next(), second.next())
    leaving, staying = asyncio.create_task(first.next()), asyncio.create_task(second.names(1))
    await asyncio.sleep(0)
    leaving.cancel()
    commit(database, "x")
    assert await staying == ["x"]
    for watcher in (first, second):
        await watcher.close()
