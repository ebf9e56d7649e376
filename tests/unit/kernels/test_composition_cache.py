import pytest
import torch

from kernels.composition import Composition, composition_bytes
from kernels.composition_cache import CompositionCache
from kernels.sgmv_torch import TorchSgmv
from tests.lora_cases import make_sites, make_world

SITES = make_sites((16, 8), (16, 24))
RANKS = ((8, 4), (8, 4), (8, 0), (0, 0))
BYTES_OF_ONE = 4 * (8 * (16 + 8) + 4 * (16 + 24))


def _cache(table, max_bytes: int = 1 << 20, max_compositions: int = 8, max_excess: float = 1.5):
    return CompositionCache(table, max_bytes, max_compositions, max_excess)


def test_weights_lie_side_by_side_at_their_true_ranks_with_the_scale_in_a():
    world = make_world(SITES, RANKS)
    composition = Composition(world.table, (0, 2, 3), max_bytes=1 << 20)
    operand = composition.operand(SITES)
    assert operand.A_RK is not None
    assert operand.owners_R.tolist() == [0] * 8 + [2] * 8 + [0] * 4
    first, second, other = world.dense[0][0], world.dense[0][1], world.dense[2][0]
    expected = [one.scale * one.A_RK for one in (first, other, second)]
    torch.testing.assert_close(operand.A_RK.double(), torch.cat(expected))
    assert torch.equal(operand.B_Rn[0].double(), torch.cat([first.B_RN, other.B_RN]))
    assert torch.equal(operand.B_Rn[1].double(), second.B_RN)
    assert operand.D_SN is None
    assert composition.num_bytes == composition_bytes(world.table, (0, 2, 3))


def test_dora_factors_of_plain_members_and_base_rows_are_zero():
    world = make_world(SITES, RANKS, dora=(2,))
    operand = Composition(world.table, (0, 2), max_bytes=1 << 20).operand(SITES)
    assert operand.D_SN is not None
    assert operand.D_SN.shape == (3, 32)
    assert not operand.D_SN[[0, 2]].any()
    assert torch.equal(operand.D_SN[1, :8].double(), world.dense[2][0].dora_N)
    assert not operand.D_SN[1, 8:].any()


def test_a_composition_is_kept_until_a_member_is_written():
    table = make_world(SITES, RANKS).table
    cache = _cache(table)
    first = cache.find((0, 1))
    assert cache.find((0, 1)) is first
    table.write(2, ())
    assert cache.find((0, 1)) is first
    table.write(1, tuple(table.rows(0).values()))
    assert cache.find((0, 1)) is not first
    cache.check_integrity()


@pytest.mark.parametrize(("max_excess", "is_same"), [(2.0, True), (1.5, False)])
def test_a_larger_composition_serves_if_it_wastes_little(max_excess: float, is_same: bool):
    cache = _cache(make_world(SITES, RANKS).table, max_excess=max_excess)
    both = cache.find((0, 1))
    assert (cache.find((1,)) is both) == is_same


def test_the_least_recently_used_goes_first():
    cache = _cache(make_world(SITES, RANKS).table, max_bytes=2 * BYTES_OF_ONE, max_excess=1.0)
    zero, one = cache.find((0,)), cache.find((1,))
    assert cache.find((0,)) is zero
    cache.find((2,))
    cache.check_integrity()
    assert repr(cache) == f"CompositionCache(compositions=2, num_bytes={BYTES_OF_ONE + 4 * 8 * 24})"
    assert cache.find((0,)) is zero
    assert cache.find((1,)) is not one


def test_the_number_of_compositions_is_bounded():
    cache = _cache(make_world(SITES, RANKS).table, max_compositions=2, max_excess=1.0)
    for member in (0, 1, 2, 3, 0):
        cache.find((member,))
        cache.check_integrity()
    assert "compositions=2" in repr(cache)


def test_what_is_too_large_is_not_copied():
    cache = _cache(make_world(SITES, RANKS).table, max_bytes=2 * BYTES_OF_ONE)
    assert cache.find((0,)) is not None
    assert cache.find((0, 1)) is None
    cache.check_integrity()


def test_any_order_of_batches_stays_within_the_limits():
    world = make_world(SITES, RANKS, dora=(1,))
    sgmv = TorchSgmv(world.table, max_copied_bytes=4 * BYTES_OF_ONE)
    x_TK = torch.randn(2, 16)
    for first in range(4):
        for second in range(4):
            segments = world.segments([(first, 1), (second, 1)])
            sgmv.add_(torch.zeros(2, 32), x_TK, SITES, segments, None)
            sgmv.compositions.check_integrity()
