import torch

from kernels.segment_bundle import Run, plan_bundles
from kernels.segments import BASE, make_segments


def _plan(*runs: tuple[int, int]):
    return plan_bundles(make_segments(runs, torch.device("cpu")), max_rows=16, max_adapters=3)


def test_neighbours_share_a_bundle_up_to_its_adapters():
    bundles, alone = _plan((0, 1), (3, 2), (1, 1), (2, 1), (0, 1))
    assert [bundle.members for bundle in bundles] == [(0, 1, 3), (0, 2)]
    assert [bundle.rows for bundle in bundles] == [slice(0, 4), slice(4, 6)]
    assert alone == ()


def test_a_bundle_spans_no_more_rows_than_allowed():
    bundles, _ = _plan((0, 9), (1, 7), (2, 1), (BASE, 14), (3, 2))
    assert [bundle.rows for bundle in bundles] == [slice(0, 16), slice(16, 17), slice(31, 33)]


def test_base_rows_in_between_belong_to_nobody():
    (bundle,), _ = _plan((BASE, 2), (4, 1), (BASE, 2), (1, 2), (BASE, 1))
    assert bundle.rows == slice(2, 7)
    assert bundle.owners() == [4, BASE, BASE, 1, 1]


def test_long_runs_are_alone():
    bundles, alone = _plan((0, 1), (1, 17), (2, 1))
    assert [bundle.members for bundle in bundles] == [(0,), (2,)]
    assert alone == (Run(1, 1, 18),)


def test_base_alone_is_no_work():
    assert _plan((BASE, 40)) == ((), ())
