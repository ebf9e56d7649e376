"""Watch over two replicas of one database: each watcher sees exactly what was committed, in order."""

import asyncio
import contextlib
import random
import threading
from datetime import UTC, datetime

import pytest

from services.adapter_store.catalog.changes import Changes
from services.adapter_store.domain.change import ChangeKind
from services.adapter_store.domain.resume_token import decode
from services.adapter_store.metadata import Database
from services.adapter_store.servicer.watches import Watches

NUM_WRITERS, NUM_COMMITS, NUM_WATCHERS = 6, 25, 8


class Replica:
    def __init__(self, database):
        self.database = database
        self.changes = Changes(database, lambda: datetime.now(UTC))
        self.watches = Watches(self.changes, database.change_signal)


@pytest.fixture
def replicas(database_url):
    """Two of them on PostgreSQL; on SQLite, which is one process's, the same one twice."""
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(contextlib.closing(Database(database_url)))
        second = first
        if not database_url.startswith("sqlite"):
            second = stack.enter_context(contextlib.closing(Database(database_url)))
        yield [Replica(first), Replica(second)]


def write(replicas, writer, seed):
    """Commits and rolls back changes named by writer and number."""
    chance = random.Random(seed)
    for number in range(NUM_COMMITS):
        with chance.choice(replicas).database.write() as uow:
            for part in range(chance.randint(1, 3)):
                uow.changes.add(ChangeKind.ALIAS_CHANGED, f"t{writer % 2}", f"{writer}/{number}/{part}")
            if chance.random() < 0.8:
                uow.commit()


async def watch(replicas, token, seed, is_over, tenant=None):
    """Every change after `token`, over streams that are broken off at random; ends when all was seen."""
    chance, seen = random.Random(seed), []
    while True:
        stream = chance.choice(replicas).watches.stream(token, tenant)
        async with contextlib.aclosing(stream) as responses:
            for _ in range(chance.randint(1, 6)):
                response = await anext(responses)
                assert not response.reset
                seen += [change.name for change in response.changes]
                token = response.resume_token
                if response.caught_up and is_over(token):
                    return seen


def committed(replica):
    with replica.database.read() as uow:
        last = uow.changes.now().sequence
        return last, [
            (change.tenant, change.resource) for change in uow.changes.between(0, last, None, 10_000)
        ]


async def test_each_watcher_sees_exactly_what_was_committed(replicas):
    seed = random.randrange(1 << 30)
    token = (await anext(replicas[0].watches.stream("", None))).resume_token
    last = None

    def is_over(token):
        return last is not None and decode(token).sequence >= last

    watching = [
        asyncio.create_task(watch(replicas, token, seed + i, is_over, "t1" if i % 4 == 3 else None))
        for i in range(NUM_WATCHERS)
    ]
    writing = [asyncio.to_thread(write, replicas, i, seed + i) for i in range(NUM_WRITERS)]
    await asyncio.gather(*writing)
    last, everything = await asyncio.to_thread(committed, replicas[0])
    # Wakes those who wait with everything seen before it was known to be everything.
    with replicas[1].database.write() as uow:
        uow.changes.add(ChangeKind.TENANT_UPDATED, "t1", "end")
        uow.commit()
    for i, seen in enumerate(await asyncio.gather(*watching)):
        wanted = [name for tenant, name in everything if i % 4 != 3 or tenant == "t1"]
        assert [name for name in seen if name != "end"] == wanted, f"watcher {i}"
    assert len(everything) > NUM_WRITERS * NUM_COMMITS


@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
async def test_a_commit_of_another_replica_is_heard_though_its_announcements_were_cut_off(postgres, replicas):
    signal = replicas[0].database.change_signal
    rung = threading.Event()
    with signal.listening(rung.set):
        await asyncio.to_thread(rung.wait, 30)
        assert signal.is_live
        stream = replicas[0].watches.stream("", None)
        async with contextlib.aclosing(stream) as responses:
            await anext(responses)
            for name in ("a", "b"):
                with replicas[1].database.write() as uow:
                    uow.changes.add(ChangeKind.ALIAS_CHANGED, "t", name)
                    uow.commit()
                assert [change.name for change in (await anext(responses)).changes] == [name]
                if name == "a":
                    rung.clear()
                    cut_off(postgres)
        await asyncio.to_thread(rung.wait, 30)


def cut_off(postgres):
    """Ends every connection that waits for announcements."""
    postgres._run_sql(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE query LIKE 'LISTEN%' AND pid <> pg_backend_pid()"
    )
