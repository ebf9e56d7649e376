from collections.abc import Sequence

import torch

from kernels.lora_site import LoraSite
from kernels.row_bags import make_row_bags
from kernels.row_runs import Run
from kernels.weight_copies import LANES, GroupCopy, WeightCopies
from tests.lora_cases import AdapterWorld, make_sites, make_world

SITES = make_sites((16, 8), (16, 24))


def _groups(world: AdapterWorld, runs: list[Run], sites: Sequence[LoraSite]) -> list[GroupCopy]:
    copies = WeightCopies(world.table, 1 << 20)
    held = copies.copy([run.adapter_index for run in runs])
    return [copies.group(held[run.adapter_index], sites) for run in runs]


def _bags(runs: list[Run], dora: tuple[int, ...] = ()):
    world = make_world(SITES, ((20, 4), (3, 0), (0, 0)), dora=dora)
    groups = _groups(world, runs, SITES)
    return make_row_bags(world.table, runs, groups, SITES, {}), groups


def test_bags_hold_true_ranks_of_a_rows_own_adapter_and_nothing_for_others():
    bags, groups = _bags([Run(0, 2, 3), Run(1, 4, 5)])
    assert bags is not None
    assert bags.rows == slice(2, 5)
    assert bags.shape.x_rows_U.tolist() == [2, 2, 4]
    assert bags.shape.offsets_U.tolist() == [0, 16, 32]
    assert bags.a_indices.tolist() == [*groups[0].a_indices.tolist(), *groups[1].a_indices.tolist()]
    assert bags.b_indices_X.tolist() == [*groups[0].b_indices.tolist(), *groups[1].b_indices.tolist()]
    counts = torch.diff(bags.shape.offsets_Z, append=torch.tensor([len(bags.b_indices_X)]))
    assert bags.width == 8
    assert counts.tolist() == [20, 4, 4, 4, 0, 0, 0, 0, 3, 0, 0, 0]
    of_first_site, of_second_site = list(range(20)), list(range(20, 24))
    of_other_row = [2 * LANES, 2 * LANES + 1, 2 * LANES + 2]
    assert bags.shape.h_indices_X.tolist() == [*of_first_site, *of_second_site * 3, *of_other_row]
    assert bags.D_MN is None


def test_dora_factors_are_zero_for_plain_rows():
    bags, _ = _bags([Run(0, 0, 1), Run(1, 1, 3)], dora=(1,))
    assert bags is not None
    assert bags.D_MN is not None
    assert bags.D_MN.any(dim=1).tolist() == [False, True, True]
    assert not bags.D_MN[:, 8:].any()


def test_adapters_that_touch_no_site_need_no_bags():
    assert _bags([Run(2, 0, 4)])[0] is None


def test_an_embedding_reads_the_pool_where_the_rank_row_starts():
    site = make_sites((16, 8))[0]
    site = type(site)(0, "embedding", 16, 8, is_embedding=True)
    world = make_world((site,), ((2,), (0,)), page_elements=64)
    runs = [Run(0, 1, 2), Run(1, 2, 3)]
    bags = make_row_bags(world.table, runs, _groups(world, runs, (site,)), (site,), {})
    assert bags is not None
    assert bags.embedding is not None
    assert bags.embedding.token_rows_X.tolist() == [1, 1]
    read = world.table.pool_E.take(bags.embedding.a_offsets_X + 5)
    assert torch.equal(read.double(), world.dense[0][0].A_RK[:, 5])
