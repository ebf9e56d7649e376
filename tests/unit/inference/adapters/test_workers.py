import threading

import pytest

from services.inference.adapters.workers import Workers


@pytest.fixture(params=[1, 3])
def workers(request):
    workers = Workers(request.param)
    yield workers
    workers.close()


@pytest.mark.parametrize("count", [0, 1, 2, 50])
def test_results_come_in_order(workers, count):
    assert workers.map(lambda i: i * i, range(count)) == [i * i for i in range(count)]


def test_several_threads_work_at_once():
    workers, all_here = Workers(3), threading.Barrier(3)
    workers.map(lambda _: all_here.wait(10), range(3))
    workers.close()


def test_an_exception_is_raised_after_the_others_have_ended(workers):
    done = []

    def work(i):
        if i == 2:
            raise KeyError(i)
        done.append(i)

    with pytest.raises(KeyError):
        workers.map(work, range(20))
    seen = list(done)
    assert workers.map(lambda i: i, range(5)) == list(range(5))
    assert done == seen
