import torch

from kernels.segment_bundle import Run, plan_bundles
from kernels.segments import BASE, make_segments

CPU = torch.device("cpu")


def _plan(*runs: tuple[int, int]):
    return plan_bundles(make_segments(runs, CPU), max_bundled_rows=16, max_padding=4, device=CPU)


def test_adjacent_equal_runs_are_views_of_the_batch():
    (bundle,) = _plan((0, 2), (1, 2), (2, 2)).bundles
    x_TK = torch.arange(12.0).view(6, 2)
    assert bundle.is_even
    assert bundle.members == (0, 1, 2)
    assert bundle.gather(x_TK).data_ptr() == x_TK.data_ptr()
    assert bundle.gather(x_TK).shape == (3, 2, 2)


def test_uneven_runs_are_gathered_and_only_live_rows_scattered():
    (bundle,) = _plan((BASE, 1), (0, 1), (BASE, 1), (1, 3)).bundles
    y_TN = torch.arange(12.0).view(6, 2)
    gathered = bundle.gather(y_TN)
    assert gathered.shape == (2, 3, 2)
    bundle.scatter_(y_TN, gathered + 100)
    assert y_TN[:, 0].tolist() == [0, 102, 4, 106, 108, 110]


def test_no_run_is_padded_beyond_the_limit_and_long_ones_are_alone():
    plan = _plan((0, 1), (1, 16), (2, 3), (3, 17), (4, 4), (5, 1))
    assert [bundle.members for bundle in plan.bundles] == [(1, 4), (2, 0, 5)]
    assert plan.alone == (Run(3, 20, 37),)


def test_base_rows_are_in_no_bundle():
    plan = _plan((BASE, 40), (BASE, 2))
    assert (plan.bundles, plan.alone) == ((), ())
