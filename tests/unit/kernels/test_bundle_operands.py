import torch

from kernels.bundle_operands import BundleOperandCache
from kernels.sgmv_torch import TorchSgmv
from tests.lora_cases import make_sites, make_world

SITES = make_sites((16, 8), (16, 24))
BYTES_OF_ONE = 4 * (8 + 4) * (16 + 8 + 24)


def _world():
    return make_world(SITES, ((8, 4), (8, 4), (8, 0), (0, 0)))


def test_an_operand_is_built_once_and_again_after_a_write():
    table = _world().table
    cache = BundleOperandCache(table, 1 << 20)
    first = cache.operand(cache.composition((0, 1)), SITES)
    assert cache.operand(cache.composition((0, 1)), SITES) is first
    table.write(1, tuple(table.rows(2).values()))
    assert cache.operand(cache.composition((0, 1)), SITES) is not first
    cache.check_integrity()


def test_the_least_recently_used_composition_goes_first():
    cache = BundleOperandCache(_world().table, 3 * BYTES_OF_ONE)
    for members in ((0,), (1,), (0,), (2,), (3,)):
        cache.operand(cache.composition(members), SITES)
        cache.check_integrity()
    kept = cache.operand(cache.composition((0,)), SITES)
    assert repr(cache) == f"BundleOperandCache(compositions=4, num_bytes={2 * BYTES_OF_ONE + 4 * 8 * 48})"
    cache.operand(cache.composition((0, 1)), SITES[:1])
    cache.operand(cache.composition((1, 0)), SITES[:1])
    cache.check_integrity()
    assert cache.operand(cache.composition((0,)), SITES) is kept


def test_what_is_too_large_is_not_copied():
    cache = BundleOperandCache(_world().table, 2 * BYTES_OF_ONE)
    assert cache.operand(cache.composition((0,)), SITES) is not None
    assert cache.operand(cache.composition((0, 1)), SITES) is None
    cache.check_integrity()


def test_padding_rows_are_zero_and_the_scale_is_folded_in():
    world = _world()
    cache = BundleOperandCache(world.table, 1 << 20)
    operand = cache.operand(cache.composition((0, 2, 3)), SITES)
    assert operand is not None
    assert operand.A_SKR is not None
    assert operand.A_SKR.shape == (3, 16, 12)
    assert not operand.A_SKR[1, :, 8:].any()
    assert not operand.B_SRN[2].any()
    assert not operand.B_SRN[0, :8, 8:].any()
    dense = world.dense[0][1]
    torch.testing.assert_close(operand.B_SRN[0, 8:, 8:].double(), dense.scale * dense.B_RN)
    assert operand.D_S1N is None


def test_many_compositions_stay_within_the_limit():
    world = _world()
    sgmv = TorchSgmv(world.table, 3 * BYTES_OF_ONE)
    x_TK = torch.randn(2, 16)
    for first in range(4):
        for second in range(4):
            segments = world.segments([(first, 1), (second, 1)])
            sgmv.add_(torch.zeros(2, 32), x_TK, SITES, segments, None)
            sgmv.operands.check_integrity()
