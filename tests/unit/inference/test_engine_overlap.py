"""Steps launched before the tokens of the one before are known: what must not be computed, kept or failed."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.common.errors import Code, Reason
from services.inference.messages import Cancel, Failed, Finished
from services.inference.request import FinishReason
from tests.unit.inference.engine_world import EOS, World, token_at


def _num_rows(world: World, request_id: str) -> int:
    return sum(request_id in batch for batch in world.runner.batches)


def test_a_step_is_launched_before_the_tokens_of_the_one_before_are_delivered() -> None:
    world = World(overlaps=True)
    request = world.submit("r", max_tokens=3)
    world.step()
    assert (len(world.runner.batches), world.tokens) == (1, {})
    world.step()
    assert (len(world.runner.batches), world.tokens) == (2, {"r": [token_at(request, 0)]})


def test_a_request_gets_no_row_beyond_its_last_token() -> None:
    world = World(overlaps=True)
    world.submit("short", max_tokens=1)
    world.submit("long", max_tokens=5)
    world.run()
    assert (_num_rows(world, "short"), _num_rows(world, "long")) == (1, 5)
    assert len(world.tokens["long"]) == 5


def test_the_row_after_an_end_token_is_dropped() -> None:
    world = World(overlaps=True)
    world.runner.tokens["r", 2] = EOS
    request = world.submit("r", max_tokens=9)
    other = world.submit("other", max_tokens=9)
    world.run()
    assert world.ended["r"] == Finished("r", FinishReason.STOP, EOS)
    assert world.tokens["r"] == [token_at(request, index) for index in range(2)]
    assert _num_rows(world, "r") == 4
    assert world.tokens["other"] == [token_at(other, index) for index in range(9)]
    assert world.engine.stats().generated_tokens == 11
    world.engine.check_idle()


def test_an_id_used_again_does_not_get_the_token_of_its_last_user() -> None:
    world = World(overlaps=True)
    world.submit("r", prompt=3, max_tokens=9)
    world.step()
    world.engine.handle(Cancel("r"))
    again = world.submit("r", prompt=7, max_tokens=2)
    world.step()
    assert world.ended.pop("r") == Finished("r", FinishReason.CANCELLED)
    world.run()
    assert world.tokens["r"] == [token_at(again, index) for index in range(2)]
    world.engine.check_idle()


def test_a_cancelled_request_s_pages_are_free_while_its_step_runs() -> None:
    world = World(overlaps=True)
    world.submit("r", max_tokens=9)
    world.step()
    assert world.pool.num_free < world.num_pages
    world.engine.handle(Cancel("r"))
    assert world.pool.num_free == world.num_pages
    world.run()
    assert "r" not in world.tokens


def test_a_row_that_fails_is_dropped_from_the_step_after() -> None:
    world = World(overlaps=True)
    world.runner.fails.add("bad")
    world.submit("bad", max_tokens=5)
    world.run()
    failed = world.ended["bad"]
    assert isinstance(failed, Failed)
    assert (failed.error.code, failed.error.reason) == (Code.INTERNAL, Reason.INTERNAL_ERROR)
    assert _num_rows(world, "bad") == 2
    world.engine.check_idle()


@pytest.mark.parametrize("ends", [True, False])
def test_a_request_that_fills_the_pool_fails_only_if_its_token_in_flight_does_not_end_it(ends: bool) -> None:
    """Two pages of four tokens: a prompt of six, so that the third token has no room for its keys."""
    world = World(overlaps=True, num_pages=2)
    if ends:
        world.runner.tokens["r", 2] = EOS
    request = world.submit("r", prompt=6, max_tokens=9)
    world.run()
    assert world.tokens["r"][:2] == [token_at(request, index) for index in range(2)]
    ended = world.ended["r"]
    if ends:
        assert ended == Finished("r", FinishReason.STOP, EOS)
    else:
        assert isinstance(ended, Failed)
        assert ended.error.reason is Reason.POOL_TOO_SMALL
    world.engine.check_idle()


WISHES = st.tuples(
    st.sampled_from(["", "a", "b", "c"]), st.integers(1, 12), st.integers(1, 12), st.integers(0, 15)
)


def _outcome(overlaps: bool, wishes: list[tuple[str, int, int, int]], num_pages: int) -> World:
    world = World(num_pages=num_pages, max_batch_tokens=7, host_capacity_bytes=300, overlaps=overlaps)
    for index, (on, prompt, max_tokens, end) in enumerate(wishes):
        world.runner.tokens[f"r{index}", end] = EOS
        world.submit(f"r{index}", on=on, prompt=prompt, max_tokens=max_tokens)
        world.step()
        world.finish_io(*"abc"[: index % 4])
    world.run()
    world.engine.check_idle()
    return world


@settings(max_examples=100, deadline=None)
@given(st.lists(WISHES, min_size=1, max_size=12), st.integers(8, 14))
def test_streams_are_the_same_with_and_without(wishes, num_pages) -> None:
    """End tokens, short pools, preemptions and adapters that come and go."""
    one, other = (_outcome(overlaps, wishes, num_pages) for overlaps in (False, True))
    assert one.tokens == other.tokens
    assert one.ended == other.ended
