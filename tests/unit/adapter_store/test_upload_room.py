import asyncio

import pytest

from services.adapter_store.servicer.upload_room import LEAST_BYTES_A_PERIOD, Pace, UploadRoom
from services.common.errors import Code, Reason, ServiceError


async def messages(*sizes):
    for size in sizes:
        yield size


async def silence():
    await asyncio.Event().wait()
    yield 0


async def test_who_finds_no_room_waits_for_the_next_place():
    room, order = UploadRoom(1), []
    holds, leave = asyncio.Event(), asyncio.Event()

    async def first():
        async with room.place("acme"):
            holds.set()
            await leave.wait()
            order.append("first")

    async def second():
        await holds.wait()
        async with room.place("acme"):
            order.append("second")

    tasks = [asyncio.create_task(second()), asyncio.create_task(first())]
    await holds.wait()
    leave.set()
    await asyncio.gather(*tasks)
    assert order == ["first", "second"]


async def test_who_waits_too_long_is_told_to_come_again():
    room = UploadRoom(1, wait_s=0.01)
    async with room.place("acme"):
        with pytest.raises(ServiceError) as caught:
            async with room.place("acme"):
                raise AssertionError("there is no room")
    assert (caught.value.code, caught.value.reason) == (Code.UNAVAILABLE, Reason.STORE_UNAVAILABLE)
    assert caught.value.retry_after_s
    async with room.place("acme"):
        pass


async def test_a_tenant_that_waits_for_its_own_does_not_stand_before_others():
    room = UploadRoom(3, wait_s=0.01)
    async with room.place("acme"), room.place("acme"):
        with pytest.raises(ServiceError):
            async with room.place("acme"):
                raise AssertionError("acme has two of three places already")
        async with room.place("beta"):
            with pytest.raises(ServiceError):
                async with room.place("gamma"):
                    raise AssertionError("there is no room")
    async with room.place("acme"), room.place("acme"), room.place("gamma"):
        pass


async def test_without_a_bound_there_is_room_and_no_hurry():
    room = UploadRoom(0)
    async with room.place("acme") as first, room.place("acme") as second:
        first.note(0)
        assert await second.next(messages(1)) == 1


async def test_silence_ends_a_stream():
    with pytest.raises(ServiceError, match="too slow"):
        await Pace(0.01).next(silence())


async def test_messages_come_in_order_and_then_the_end():
    pace, stream = Pace(10.0), messages(1, 2)
    assert [await pace.next(stream) for _ in range(3)] == [1, 2, None]


def test_a_trickle_ends_a_stream_and_enough_bytes_do_not():
    times = iter([0.0, 5.0, 11.0, 11.0, 22.0, 30.0])
    pace = Pace(10.0, lambda: next(times))
    pace.note(1)
    pace.note(LEAST_BYTES_A_PERIOD)
    with pytest.raises(ServiceError, match="too slow"):
        pace.note(1)
