import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.common.errors import Code, Reason, ServiceError
from services.inference.messages import (
    Cancel,
    Failed,
    Finished,
    GetStats,
    LoadAdapter,
    Reply,
    ResidencyState,
    Started,
    UnloadAdapter,
)
from services.inference.request import FinishReason, Request
from tests.unit.inference.engine_world import World, adapter, token_at

pytestmark = pytest.mark.parametrize("overlaps", [False, True], ids=["in turn", "overlapped"])

BROKEN = ServiceError(Code.INTERNAL, Reason.INTERNAL_ERROR, "no copy engine")


def _expected(request: Request) -> list[int]:
    return [token_at(request, index) for index in range(request.sampling.max_tokens)]


def test_streams_of_different_adapters_share_a_batch_and_get_their_own_tokens(overlaps: bool) -> None:
    world = World(overlaps=overlaps)
    requests = [world.submit(f"r{index}", on=name) for index, name in enumerate(["a", "b", "", "a"])]
    world.run()
    for request in requests:
        assert world.tokens[request.request_id] == _expected(request)
        assert world.ended[request.request_id] == Finished(request.request_id, FinishReason.LENGTH)
    stats = world.engine.stats()
    assert stats.mixed_steps >= 3
    assert stats.max_adapters_in_batch == 2
    assert stats.max_requests_in_batch == 4
    assert (stats.finished_requests, stats.generated_tokens, stats.prompt_tokens) == (4, 16, 12)
    world.engine.check_idle()
    assert repr(world.engine) == (
        "Engine(Scheduler(waiting=0, running=0), PagePool(free=28, kv=0, adapter=4, total=32), "
        "Residency(REMOTE=0, FETCHING=0, HOST=0, LOADING=0, DEVICE=2))"
    )


def test_a_request_waits_for_its_own_adapter_only(overlaps: bool) -> None:
    world = World(overlaps=overlaps)
    world.submit("slow", on="slow")
    world.submit("fast", on="fast")
    world.submit("base")
    for _ in range(10):
        world.step()
        world.finish_io("fast")
    assert set(world.ended) == {"fast", "base"}
    world.run()
    assert set(world.ended) == {"slow", "fast", "base"}
    world.engine.check_idle()


def test_a_failed_fetch_fails_its_own_requests_and_a_later_one_tries_again(overlaps: bool) -> None:
    world = World(overlaps=overlaps)
    error = ServiceError(Code.UNAVAILABLE, Reason.STORE_UNAVAILABLE, "store is down")
    world.io.failures["key-a"] = error
    world.submit("r0", on="a")
    world.submit("r1", on="a")
    world.submit("r2", on="b")
    world.run()
    assert world.ended["r0"] == Failed("r0", error)
    assert world.ended["r1"] == Failed("r1", error)
    assert world.ended["r2"] == Finished("r2", FinishReason.LENGTH)
    world.io.failures.clear()
    world.submit("r3", on="a")
    world.run()
    assert world.ended["r3"] == Finished("r3", FinishReason.LENGTH)
    world.engine.check_idle()


def test_when_pages_run_out_the_last_is_preempted_and_still_gets_its_tokens(overlaps: bool) -> None:
    world = World(overlaps=overlaps, num_pages=8)
    requests = [world.submit(f"r{index}", prompt=4, max_tokens=16) for index in range(4)]
    world.run()
    for request in requests:
        assert world.tokens[request.request_id] == _expected(request)
    assert world.engine.stats().preemptions > 0
    assert len([event for event in world.events if isinstance(event, Started)]) == 4
    world.engine.check_idle()


def test_idle_adapters_give_way_to_kv_and_come_back(overlaps: bool) -> None:
    world = World(overlaps=overlaps, num_pages=8)
    world.submit("first", on="a")
    world.run()
    assert world.residency.state(adapter("a")) is ResidencyState.DEVICE
    world.submit("long", prompt=4, max_tokens=28)
    world.run()
    assert world.ended["long"] == Finished("long", FinishReason.LENGTH)
    assert world.residency.state(adapter("a")) is ResidencyState.HOST
    again = world.submit("again", on="a")
    world.run()
    assert world.tokens["again"] == _expected(again)
    assert world.engine.stats().store_fetches == 1
    world.engine.check_idle()


def test_more_adapters_than_fit_are_all_served(overlaps: bool) -> None:
    world = World(overlaps=overlaps, num_pages=8)
    requests = [world.submit(f"r{index}", on=f"a{index}", max_tokens=6) for index in range(20)]
    world.run()
    for request in requests:
        assert world.tokens[request.request_id] == _expected(request)
    assert world.engine.stats().device_evictions >= 16
    world.engine.check_idle()


def test_a_cold_adapter_is_not_starved_by_a_stream_of_resident_ones(overlaps: bool) -> None:
    world = World(overlaps=overlaps, num_pages=8, max_batch_requests=4)
    world.io.num_pages["key-cold"] = 4
    world.submit("warm", on="hot")
    world.run()
    live = 0
    for index in range(3):
        world.submit(f"hot{index}", on="hot", prompt=4, max_tokens=8)
    world.submit("cold", on="cold", prompt=4, max_tokens=8)
    live = 3
    for _ in range(60):
        world.submit(f"hot{live}", on="hot", prompt=4, max_tokens=8)
        live += 1
        world.step()
        world.finish_io()
        if "cold" in world.ended:
            break
    assert world.ended["cold"] == Finished("cold", FinishReason.LENGTH)
    # It went before nearly all that arrived after it.
    assert len([name for name in world.ended if name.startswith("hot")]) <= 8


def test_what_can_never_fit_fails_alone_and_says_what_to_do(overlaps: bool) -> None:
    world = World(overlaps=overlaps, num_pages=8)
    world.submit("big", prompt=4, max_tokens=40)
    world.submit("small", prompt=4, max_tokens=4)
    world.run()
    failed = world.ended["big"]
    assert isinstance(failed, Failed)
    assert (failed.error.code, failed.error.reason) == (Code.RESOURCE_EXHAUSTED, Reason.POOL_TOO_SMALL)
    assert "--pool-bytes" in failed.error.message
    assert world.ended["small"] == Finished("small", FinishReason.LENGTH)
    world.io.num_pages["key-huge"] = 9
    world.submit("huge", on="huge")
    world.run()
    assert isinstance(world.ended["huge"], Failed)
    world.engine.check_idle()


def test_what_pins_crowd_out_fails_at_once_and_says_what_to_do(overlaps: bool) -> None:
    world = World(overlaps=overlaps, num_pages=10)
    world.io.num_pages = {"key-pinned": 5, "key-large": 5}
    world.engine.handle(LoadAdapter(1, adapter("pinned"), ResidencyState.DEVICE, pin=True))
    world.run()
    world.submit("r", on="large")
    # Alone: no other work wakes the engine up to answer.
    world.run()
    failed = world.ended["r"]
    assert isinstance(failed, Failed)
    assert failed.error.reason is Reason.ADAPTER_NOT_LOADABLE
    assert "unload a pinned adapter" in failed.error.message
    world.submit("small", on="small")
    world.run()
    assert world.ended["small"] == Finished("small", FinishReason.LENGTH)
    world.engine.check_idle()


def test_higher_priority_goes_first(overlaps: bool) -> None:
    world = World(overlaps=overlaps, max_batch_requests=1)
    world.submit("low", priority=0)
    world.submit("high", priority=5)
    world.run()
    order = [event.request_id for event in world.events if isinstance(event, Started)]
    assert order == ["high", "low"]


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_cancel_frees_everything_at_once_wherever_the_request_is(overlaps: bool, steps: int) -> None:
    world = World(overlaps=overlaps)
    world.submit("gone", on="a", max_tokens=50)
    world.submit("stays", on="a")
    for _ in range(steps):
        world.step()
        world.finish_io()
    world.engine.handle(Cancel("gone"))
    world.engine.handle(Cancel("gone"))
    world.engine.handle(Cancel("never-was"))
    world.run()
    assert world.ended["gone"] == Finished("gone", FinishReason.CANCELLED)
    assert world.ended["stays"] == Finished("stays", FinishReason.LENGTH)
    assert world.engine.stats().cancelled_requests == 1
    world.engine.check_idle()


def test_a_stop_found_by_the_front_end_is_no_cancellation(overlaps: bool) -> None:
    world = World(overlaps=overlaps)
    world.submit("r", max_tokens=50)
    world.step()
    world.engine.handle(Cancel("r", FinishReason.STOP))
    world.run()
    assert world.ended["r"] == Finished("r", FinishReason.STOP)
    stats = world.engine.stats()
    assert (stats.finished_requests, stats.cancelled_requests) == (1, 0)


def test_deadlines_are_kept_while_queued_and_while_running(overlaps: bool) -> None:
    world = World(overlaps=overlaps)
    world.submit("queued", on="never", deadline_s=5.0)
    world.submit("running", max_tokens=1000, deadline_s=7.0)
    world.submit("in-time", deadline_s=9.0)
    assert world.engine.next_deadline_s == 5.0
    for _ in range(5):
        world.step()
    world.now_s = 5.0
    world.step()
    assert set(world.ended) == {"queued", "in-time"}
    world.now_s = 8.0
    world.step()
    failed = world.ended["running"]
    assert isinstance(failed, Failed)
    assert (failed.error.code, failed.error.reason) == (Code.DEADLINE_EXCEEDED, Reason.DEADLINE)
    assert world.engine.next_deadline_s is None


def test_a_full_queue_refuses_with_a_time_to_retry(overlaps: bool) -> None:
    world = World(overlaps=overlaps, max_queue=2)
    for index in range(3):
        world.submit(f"r{index}")
    world.step()
    failed = world.ended["r2"]
    assert isinstance(failed, Failed)
    assert (failed.error.code, failed.error.reason) == (Code.RESOURCE_EXHAUSTED, Reason.QUEUE_FULL)
    assert failed.error.retry_after_s
    world.run()
    assert isinstance(world.ended["r0"], Finished)
    assert isinstance(world.ended["r1"], Finished)


def test_a_row_that_fails_takes_nobody_with_it(overlaps: bool) -> None:
    world = World(overlaps=overlaps)
    world.runner.fails.add("bad")
    world.submit("bad")
    good = world.submit("good")
    world.run()
    assert isinstance(world.ended["bad"], Failed)
    assert world.tokens["good"] == _expected(good)
    world.engine.check_idle()


def test_long_prompts_are_prefilled_in_chunks_beside_decodes(overlaps: bool) -> None:
    world = World(overlaps=overlaps, max_batch_tokens=8)
    short = world.submit("short", prompt=2, max_tokens=20)
    world.step()
    long = world.submit("long", prompt=40, max_tokens=2)
    world.run()
    assert world.tokens["short"] == _expected(short)
    assert world.tokens["long"] == _expected(long)
    with_long = [batch for batch in world.runner.batches if "long" in batch]
    assert len(with_long) >= 6
    assert all("short" in batch for batch in with_long[:6])


def test_an_operator_loads_pins_and_unloads(overlaps: bool) -> None:
    world = World(overlaps=overlaps)
    world.engine.handle(LoadAdapter(1, adapter("a"), ResidencyState.DEVICE, pin=True))
    world.run()
    replies = {event.call_id: event.value for event in world.events if isinstance(event, Reply)}
    assert replies[1].residency is ResidencyState.DEVICE
    assert replies[1].pinned
    world.engine.handle(UnloadAdapter(2, adapter("a").key, "t", ResidencyState.HOST))
    world.engine.handle(GetStats(3))
    world.run()
    replies = {event.call_id: event.value for event in world.events if isinstance(event, Reply)}
    assert replies[2].device_bytes > 0
    assert world.pool.num_free == world.num_pages
    world.engine.check_idle()


SUBMITS = st.tuples(
    st.sampled_from(["", "a", "b", "c", "d", "e", "f"]),
    st.integers(1, 20),
    st.integers(1, 12),
    st.integers(-1, 1),
)


@settings(max_examples=150, deadline=None)
@given(
    st.lists(SUBMITS, min_size=1, max_size=25),
    st.randoms(),
    st.integers(10, 16),
    st.integers(4, 32),
    st.booleans(),
)
def test_any_mix_of_work_ends_whole_and_leaves_nothing(
    overlaps, wishes, random, num_pages, max_batch_tokens, breaks_loads
) -> None:
    world = World(
        overlaps=overlaps, num_pages=num_pages, max_batch_tokens=max_batch_tokens, host_capacity_bytes=300
    )
    requests: dict[str, Request] = {}
    cancelled: set[str] = set()
    for index, (on, prompt, max_tokens, priority) in enumerate(wishes):
        request_id = f"r{index}"
        requests[request_id] = world.submit(
            request_id, on=on, prompt=prompt, max_tokens=max_tokens, priority=priority
        )
        for _ in range(random.randrange(3)):
            world.io.load_failures = {f"key-{random.choice('abcdef')}": BROKEN} if breaks_loads else {}
            world.step()
            if random.random() < 0.7:
                world.finish_io(*random.sample("abcdef", 3))
        if random.random() < 0.1:
            victim = random.choice(sorted(requests))
            world.engine.handle(Cancel(victim))
            cancelled.add(victim)
    world.io.load_failures = {}
    world.run()
    for request_id, request in requests.items():
        ended = world.ended[request_id]
        if breaks_loads and ended == Failed(request_id, BROKEN):
            continue
        assert isinstance(ended, Finished), ended
        if ended.reason is FinishReason.LENGTH:
            assert world.tokens[request_id] == _expected(request)
        else:
            assert request_id in cancelled
    world.engine.check_idle()


OPERATIONS = st.tuples(
    st.sampled_from(["submit", "submit", "submit", "load", "pin", "unload"]),
    st.sampled_from("abcd"),
    st.integers(1, 5),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(OPERATIONS, min_size=1, max_size=30), st.randoms(), st.integers(8, 14))
def test_whatever_operators_do_every_request_and_call_is_answered(
    overlaps, operations, random, num_pages
) -> None:
    world = World(overlaps=overlaps, num_pages=num_pages, host_capacity_bytes=300)
    world.io.num_pages = {f"key-{name}": random.randint(1, 6) for name in "abcd"}
    calls: set[int] = set()
    for index, (kind, name, size) in enumerate(operations):
        tier = random.choice([ResidencyState.HOST, ResidencyState.DEVICE])
        if kind == "submit":
            world.submit(f"r{index}", on=name, prompt=size, max_tokens=size)
        elif kind == "unload":
            world.engine.handle(UnloadAdapter(index, adapter(name).key, "t", tier))
        else:
            world.engine.handle(LoadAdapter(index, adapter(name), tier, pin=kind == "pin"))
        if kind != "submit":
            calls.add(index)
        for _ in range(random.randrange(3)):
            world.step()
            world.finish_io(*random.sample("abcd", 2))
    world.run()
    replies = [event.call_id for event in world.events if isinstance(event, Reply)]
    assert sorted(replies) == sorted(calls)
    assert len(world.ended) == len(operations) - len(calls)
    for ended in world.ended.values():
        if isinstance(ended, Failed):
            assert ended.error.reason in (Reason.ADAPTER_NOT_LOADABLE, Reason.POOL_TOO_SMALL)
    world.engine.check_idle()


def test_adapters_of_queued_requests_are_loaded_while_the_batch_is_full(overlaps: bool) -> None:
    world = World(overlaps=overlaps, max_batch_requests=1)
    world.submit("running", on="a", max_tokens=20)
    world.step()
    world.finish_io("a")
    world.step()
    world.finish_io("a")
    for name in "bc":
        world.submit(f"next-{name}", on=name)
    for _ in range(3):
        world.step()
        world.finish_io()
    assert "running" not in world.ended
    assert {world.residency.state(adapter(name)) for name in "bc"} == {ResidencyState.DEVICE}
    world.run()
    assert set(world.ended) == {"running", "next-b", "next-c"}
    world.engine.check_idle()


def test_loads_ahead_take_no_page_that_those_before_need(overlaps: bool) -> None:
    """8 pages: the running request's adapter has 2 and it fills 5 in the end; the next one's wants 2."""
    world = World(overlaps=overlaps, num_pages=8, max_batch_requests=1)
    world.submit("running", on="a", prompt=4, max_tokens=16)
    for _ in range(2):
        world.step()
        world.finish_io("a")
    world.submit("next", on="b", prompt=16)
    world.finish_io("b")
    while "running" not in world.ended:
        # A load that begins now goes on until the running request has ended.
        world.step()
    assert world.engine.stats().preemptions == 0
    world.run()
    assert set(world.ended) == {"running", "next"}
    world.engine.check_idle()


def test_a_newcomer_whose_adapter_is_in_host_memory_is_in_the_next_step(overlaps: bool) -> None:
    world = World(overlaps=overlaps)
    world.submit("before", on="a", max_tokens=1)
    world.submit("running", max_tokens=30)
    world.run()
    world.residency.unload(adapter("a").key, "t", ResidencyState.DEVICE, 1)
    world.submit("running again", max_tokens=30)
    world.step()
    world.submit("newcomer", on="a", max_tokens=3)
    assert world.residency.state(adapter("a")) is ResidencyState.HOST
    world.step()
    assert world.residency.state(adapter("a")) is ResidencyState.LOADING
    assert set(world.runner.batches[-1]) == {"newcomer", "running again"}
    while "newcomer" not in world.ended:
        world.step()
    assert world.residency.state(adapter("a")) is ResidencyState.LOADING, "the copies never ended"
    world.run()
    world.engine.check_idle()


def test_a_load_that_goes_wrong_fails_its_own_requests_before_the_step_and_a_later_one_tries_again(
    overlaps: bool,
) -> None:
    world = World(overlaps=overlaps)
    world.io.load_failures["key-a"] = BROKEN
    for request_id, name in (("r1", "a"), ("r2", "a"), ("other", "b"), ("base", "")):
        world.submit(request_id, on=name)
    world.step()
    world.finish_io()
    world.step()
    assert world.ended == {"r1": Failed("r1", BROKEN), "r2": Failed("r2", BROKEN)}
    assert set(world.runner.batches[-1]) == {"other", "base"}
    world.io.load_failures.clear()
    world.submit("later", on="a")
    world.step()
    assert "later" not in world.runner.batches[-1], "the copies that were launched have not ended"
    world.run()
    assert isinstance(world.ended["later"], Finished)
    assert not any({"r1", "r2"} & set(batch) for batch in world.runner.batches)
    world.engine.check_idle()


def test_pages_of_a_cancelled_newcomer_s_adapter_are_nobody_s_until_its_copies_have_ended(
    overlaps: bool,
) -> None:
    world = World(overlaps=overlaps, num_pages=6)
    world.submit("cancelled", on="a")
    world.finish_io()
    world.step()
    world.engine.handle(Cancel("cancelled", FinishReason.CANCELLED))
    world.submit("large", prompt=18, max_tokens=2)
    for _ in range(3):
        world.step()
    assert world.pool.num_free == 4
    assert set(world.ended) == {"cancelled"}, "failed for want of pages that come free"
    world.finish_io()
    world.run()
    assert isinstance(world.ended["large"], Finished)
    assert world.residency.counters.device_evictions == 1
    world.engine.check_idle()


def test_the_time_that_a_request_waited_for_its_adapter_ends_when_the_load_is_ordered(overlaps: bool) -> None:
    world = World(overlaps=overlaps)
    world.submit("r", on="a")
    world.step()
    world.now_s = 3.0
    world.finish_io()
    world.step()
    [started] = [event for event in world.events if isinstance(event, Started)]
    assert (started.adapter_wait_s, started.queue_s) == (3.0, 0.0)
