import pytest
import torch

from kernels.sgmv_torch import TorchSgmv
from kernels.weight_copies import LANES, WeightCopies, chunk_width
from tests.lora_cases import make_sites, make_world

SITES = make_sites((16, 8), (16, 24))
RANKS = ((8, 4), (8, 4), (8, 4), (20, 0), (0, 0))


def _site_bytes(rank: int, out_features: int) -> int:
    aligning = LANES + out_features
    return 4 * (aligning + -(-rank // LANES) * LANES * 16 + rank * out_features)


BYTES_OF_ONE = _site_bytes(8, 8) + _site_bytes(4, 24)


def _world():
    return make_world(SITES, RANKS)


@pytest.mark.parametrize("adapter", [0, 3, 4])
def test_a_group_is_a_transposed_in_tiles_and_b_times_the_scale_in_chunks(adapter: int):
    world = _world()
    copies = WeightCopies(world.table, 1 << 20)
    group = copies.group(copies.copy([1, adapter])[adapter], SITES)
    assert group.ranks == RANKS[adapter]
    A_jKL = copies.rows(LANES)[group.a_indices].view(group.num_tiles, 16, LANES)
    A_RK = A_jKL.transpose(1, 2).flatten(0, 1)
    B_X8 = copies.rows(chunk_width(SITES))[group.b_indices]
    for index, dense in world.dense[adapter].items():
        rank, num_rows = group.ranks[index], group.ranks[index] * SITES[index].out_features // 8
        assert torch.equal(A_RK[:rank].double(), dense.A_RK)
        B_RN = B_X8[:num_rows].view(-1, rank, 8).transpose(0, 1).flatten(1)
        torch.testing.assert_close(B_RN.double(), dense.scale * dense.B_RN)
        A_RK, B_X8 = A_RK[rank:], B_X8[num_rows:]
    assert not A_RK.any()
    assert len(A_RK) < LANES
    assert len(B_X8) == 0
    copies.check_integrity()


def test_each_group_has_numbers_of_its_own_and_is_copied_once():
    copies = WeightCopies(_world().table, 1 << 20)
    held = copies.copy([0, 1])
    groups = [copies.group(held[adapter], (site,)) for adapter in (0, 1) for site in SITES]
    floats = [
        index.item() * width + i
        for group, site in zip(groups, SITES * 2, strict=True)
        for indices, width in ((group.a_indices, LANES), (group.b_indices, site.out_features))
        for index in indices
        for i in range(width)
    ]
    assert len(set(floats)) == len(floats)
    assert copies.group(held[0], SITES[:1]) is groups[0]
    copies.check_integrity()


def test_a_site_in_other_company_is_refused():
    copies = WeightCopies(_world().table, 1 << 20)
    copy = copies.copy([0])[0]
    copies.group(copy, SITES)
    with pytest.raises(ValueError, match=r"site 0 comes with \(0,\), came with \(0, 1\)"):
        copies.group(copy, SITES[:1])


def test_an_adapter_is_copied_once_whatever_its_company_and_again_after_a_write():
    table = _world().table
    copies = WeightCopies(table, 1 << 20)
    first = copies.copy([0, 1])
    assert copies.copy([2, 0])[0] is first[0]
    table.write(0, tuple(table.rows(2).values()))
    again = copies.copy([0, 1])
    assert again[0] is not first[0]
    assert again[1] is first[1]
    assert repr(copies) == f"WeightCopies(adapters=4, num_bytes={4 * BYTES_OF_ONE}, clears=0)"
    copies.check_integrity()


def test_what_has_no_room_is_not_copied():
    copies = WeightCopies(_world().table, 2 * BYTES_OF_ONE)
    assert copies.copy([0, 1, 2]).keys() == {0, 1}
    assert copies.copy([0, 1, 2]).keys() == {0, 1}
    assert copies.num_clears == 0
    assert WeightCopies(_world().table, 0).copy([0, 4]).keys() == {4}
    copies.check_integrity()


def test_the_store_is_cleared_when_others_hold_half_of_it():
    copies = WeightCopies(_world().table, 2 * BYTES_OF_ONE)
    copies.copy([0, 1])
    assert copies.copy([0, 2]).keys() == {0, 2}
    assert copies.num_clears == 1
    assert copies.copy([2]).keys() == {2}
    assert copies.num_clears == 1
    copies.check_integrity()


def test_results_stay_right_while_the_store_grows_and_is_cleared():
    world = _world()
    small, ample = TorchSgmv(world.table, 3 * BYTES_OF_ONE), TorchSgmv(world.table)
    x_TK = torch.randn(2, 16, generator=torch.Generator().manual_seed(1))
    for first in range(5):
        for second in range(5):
            segments = world.segments([(first, 1), (second, 1)])
            y_TN, expected_TN = torch.zeros(2, 32), torch.zeros(2, 32)
            small.add_(y_TN, x_TK, SITES, segments, None)
            ample.add_(expected_TN, x_TK, SITES, segments, None)
            torch.testing.assert_close(y_TN, expected_TN)
            small.copies.check_integrity()
            ample.copies.check_integrity()
    assert small.copies.num_clears > 0
    assert ample.copies.num_clears == 0
