import random

import pytest

from services.inference.request import Request, SamplingParams
from services.inference.sequence import Sequence
from services.inference.sequence_queue import SequenceQueue


def _sequence(priority: int, number: int) -> Sequence:
    request = Request(f"r{number}", (1,), None, SamplingParams(max_tokens=2), 0.0, priority)
    return Sequence(request, order=(-priority, number))


def test_sequences_stay_in_order_whatever_comes_and_goes() -> None:
    values = random.Random(1)
    queue = SequenceQueue()
    there: list[Sequence] = []
    for number in range(300):
        if there and values.random() < 0.4:
            queue.remove(there.pop(values.randrange(len(there))))
        else:
            there.append(_sequence(values.randrange(3), number))
            queue.add(there[-1])
        queue.check_integrity()
        there.sort(key=lambda sequence: sequence.order)
        assert list(queue) == there
        assert list(reversed(queue)) == there[::-1]
    assert len(queue) == len(there)
    assert queue.since(there[5], 3) == there[5:8]
    assert list(queue.ahead_of(there[5])) == there[:5]
    gone = there.pop(5)
    queue.remove(gone)
    assert gone not in queue
    assert there[5] in queue
    assert list(queue.ahead_of(gone)) == there[:5]
    with pytest.raises(KeyError):
        queue.remove(gone)


def test_a_token_in_flight_counts_and_may_be_the_last() -> None:
    sequence = _sequence(0, 0)
    assert (sequence.num_tokens, sequence.num_pending, sequence.ends_in_flight) == (1, 1, False)
    sequence.num_computed, sequence.num_in_flight = 1, 1
    assert (sequence.num_tokens, sequence.num_pending, sequence.ends_in_flight) == (2, 1, False)
    sequence.num_in_flight = 0
    sequence.accept(7)
    sequence.num_computed, sequence.num_in_flight = 2, 1
    assert (sequence.num_tokens, sequence.ends_in_flight) == (3, True)
