import itertools
from collections import Counter

import pytest

from services.common.traffic_split import choose_target, is_sampled

SALT = "tenants/acme/adapters/support"
EVEN = [0, 2, 5, 7, 9, 10, 11, 15, 16, 18, 19, 20, 24, 25, 28, 29, 30, 31, 32, 33, 34, 35, 37, 38, 39]
SAMPLED = [0, 1, 3, 12, 14, 15, 17, 20, 23, 28]
KEYS = [f"user-{i}" for i in range(20_000)]


def assign(*targets, salt=SALT):
    return {key: choose_target(salt, key, targets) for key in KEYS}


def moved(before, after):
    return Counter((before[key], after[key]) for key in KEYS if before[key] != after[key])


def test_the_assignment_is_a_constant_of_the_wire():
    # Computed once: another release, machine or process must give the same.
    assert [choose_target(SALT, f"k{i}", [(3, 90), (4, 10)]) for i in range(20)].count(4) == 4
    assert [i for i in range(40) if choose_target(SALT, f"k{i}", [(3, 1), (4, 1)]) == 3] == EVEN
    assert [i for i in range(40) if is_sampled(SALT, f"k{i}", 0.25)] == SAMPLED


@pytest.mark.parametrize("targets", [((3, 90), (4, 10)), ((1, 1), (2, 2), (3, 7)), ((1, 1), (2, 999_999))])
def test_shares_are_in_proportion_to_the_weights(targets):
    counts, total = Counter(assign(*targets).values()), sum(weight for _, weight in targets)
    for version, weight in targets:
        share = weight / total
        # Five standard deviations of a binomial.
        assert abs(counts[version] / len(KEYS) - share) <= 5 * (share * (1 - share) / len(KEYS)) ** 0.5


def test_order_and_scale_of_weights_do_not_matter():
    assert assign((3, 90), (4, 10)) == assign((4, 10), (3, 90)) == assign((3, 900), (4, 100))


def test_a_change_of_weights_moves_the_needed_share_only():
    changes = moved(assign((3, 90), (4, 10)), assign((3, 80), (4, 20)))
    assert set(changes) == {(3, 4)}
    assert changes[3, 4] / len(KEYS) == pytest.approx(0.10, abs=0.012)


def test_keys_never_move_between_targets_whose_weights_stayed():
    before = assign((1, 40), (2, 40), (3, 20))
    assert {pair[1] for pair in moved(before, assign((1, 40), (2, 40), (3, 60)))} == {3}
    assert {pair[0] for pair in moved(before, assign((1, 40), (2, 40)))} == {3}
    assert {pair[1] for pair in moved(before, assign((1, 40), (2, 40), (3, 20), (4, 5)))} == {4}


def test_one_target_takes_all():
    assert set(assign((7, 1)).values()) == {7}


def test_adapters_split_independently():
    here, there = assign((1, 1), (2, 1)), assign((1, 1), (2, 1), salt="tenants/acme/adapters/other")
    same = sum(here[key] == there[key] for key in KEYS)
    assert same / len(KEYS) == pytest.approx(0.5, abs=0.02)


def test_a_higher_rate_keeps_who_was_sampled():
    samples = [{key for key in KEYS if is_sampled(SALT, key, rate)} for rate in (0.01, 0.1, 0.5, 1.0)]
    for less, more in itertools.pairwise(samples):
        assert less < more
    assert samples[-1] == set(KEYS)
    assert len(samples[1]) / len(KEYS) == pytest.approx(0.1, abs=0.012)


def test_the_sample_is_independent_of_the_split():
    split = assign((3, 1), (4, 1))
    sampled = [split[key] for key in KEYS if is_sampled(SALT, key, 0.5)]
    assert sampled.count(3) / len(sampled) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("key", ["", "\x00", "é\ud800", "x" * 10_000])
def test_any_text_is_a_key(key):
    assert choose_target(SALT, key, [(1, 1), (2, 1)]) in (1, 2)
    assert is_sampled(SALT, key, 1.0)
