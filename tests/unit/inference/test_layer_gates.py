import pytest

from services.inference.layer_gates import OPEN_GATES, LoadGates, first_layers
from tests.unit.inference.step_log import StepLog

NUM_LAYERS = 8
# Two sites a layer, then the embedding and the head.
SITE_LAYERS = (*(layer for layer in range(NUM_LAYERS) for _ in range(2)), 0, NUM_LAYERS)


@pytest.fixture
def log():
    return StepLog()


@pytest.fixture
def gates(log):
    return LoadGates(SITE_LAYERS, log.make_gate)


@pytest.mark.parametrize(
    ("num_layers", "firsts"),
    [(1, (0, 1)), (2, (0, 1, 2)), (8, (0, 1, 3, 7, 8)), (32, (0, 1, 3, 7, 15, 31, 32))],
)
def test_gates_are_a_doubling_apart_and_the_head_has_its_own(num_layers, firsts):
    assert first_layers(num_layers) == firsts


def test_every_site_is_guarded_by_a_gate_that_its_layer_has_passed(gates, log):
    for site, layer in enumerate(SITE_LAYERS):
        for before in range(layer + 1):
            gates.wait(before)
        passed = log.take()
        assert f"steps: wait gate {gates.site_gates[site]}" in passed


def test_a_step_passes_each_gate_once_and_in_order(gates, log):
    for layer in range(NUM_LAYERS + 1):
        gates.wait(layer)
    assert log.take() == [f"steps: wait gate {gate}" for gate in range(gates.num_gates)]


def test_only_steps_that_use_the_adapter_wait_for_its_load(gates, log):
    gates.begin(3, log.make_end())
    assert gates.for_step([-1, 2]) is OPEN_GATES
    assert gates.for_step([-1, 3]) is gates
    gates.wait_for_whole([-1, 2])
    assert log.take() == []
    gates.wait_for_whole([2, 3])
    assert log.take() == ["steps: wait end 0"]


def test_nobody_waits_for_a_load_that_has_ended(gates, log):
    gates.begin(3, log.make_end())
    gates.begin(4, log.make_end())
    gates.end(3)
    assert gates.for_step([3]) is OPEN_GATES
    gates.wait_for_whole([3])
    assert log.take() == []
    assert gates.for_step([4]) is gates
    assert repr(gates) == "LoadGates(gates=5, under_way=1)"


def test_a_row_that_is_given_again_has_the_new_load_alone(gates, log):
    gates.begin(3, log.make_end())
    gates.end(3)
    gates.begin(3, log.make_end())
    gates.wait_for_whole([3])
    assert log.take() == ["steps: wait end 1"]


def test_open_gates_hold_back_nothing(log):
    for layer in range(NUM_LAYERS + 1):
        OPEN_GATES.wait(layer)
    assert log.lines == []
