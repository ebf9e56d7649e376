"""Imports share their threads: no tenant has all, and who left holds none that is not at work."""

import asyncio
import threading

import pytest

from services.adapter_store.servicer.import_threads import ImportThreads


class Import:
    """Work that says when it runs, and ends when it is told to."""

    def __init__(self):
        self.runs, self.may_end = threading.Event(), threading.Event()

    def __call__(self) -> str:
        self.runs.set()
        assert self.may_end.wait(20)
        return "done"


async def is_running(work: Import) -> None:
    assert await asyncio.to_thread(work.runs.wait, 20)


@pytest.fixture
def imports():
    made = []

    def make(number: int) -> list[Import]:
        made.extend(Import() for _ in range(number))
        return made[-number:]

    yield make
    for work in made:
        work.may_end.set()


async def test_one_tenant_leaves_a_thread_to_the_others(imports):
    threads = ImportThreads(3)
    first, second, third, other = imports(4)
    running = [await threads.start("acme", work) for work in (first, second)]
    waiting = asyncio.create_task(threads.start("acme", third))
    running.append(await asyncio.wait_for(threads.start("other", other), 20))
    await is_running(other)
    assert not waiting.done()
    first.may_end.set()
    assert await running[0] == "done"
    running.append(await waiting)
    await is_running(third)
    for work in (second, third, other):
        work.may_end.set()
    assert await asyncio.gather(*running) == ["done"] * 4


async def test_who_leaves_while_he_waits_has_begun_nothing_and_holds_nothing(imports):
    threads = ImportThreads(2)
    first, other, left, last = imports(4)
    running = [await threads.start("acme", first), await threads.start("other", other)]
    for tenant in ("acme", "third"):  # one waits for the tenant's share, one for a thread
        waiting = asyncio.create_task(threads.start(tenant, left))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    for work in (first, other):
        work.may_end.set()
    await asyncio.gather(*running)
    for tenant in ("acme", "third"):
        last.may_end.set()
        assert await asyncio.wait_for(await threads.start(tenant, last), 20) == "done"
    assert not left.runs.is_set()


async def test_an_import_that_everybody_left_takes_its_thread_until_it_ends(imports):
    threads = ImportThreads(1)
    first, second = imports(2)
    await threads.start("acme", first)
    await is_running(first)
    waiting = asyncio.create_task(threads.start("other", second))
    await asyncio.sleep(0)
    assert not waiting.done()
    assert not second.runs.is_set()
    first.may_end.set()
    running = await waiting
    second.may_end.set()
    assert await running == "done"
