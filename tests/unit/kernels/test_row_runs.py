import torch

from kernels.row_runs import Run, split_runs, split_spans
from kernels.segments import BASE, make_segments


def _runs(*runs: tuple[int, int]):
    return split_runs(make_segments(runs, torch.device("cpu")), max_short_rows=16)


def test_runs_are_split_by_their_rows_and_base_rows_are_in_neither():
    runs = _runs((BASE, 40), (0, 16), (1, 17), (BASE, 1), (0, 1))
    assert runs.short == (Run(0, 40, 56), Run(0, 74, 75))
    assert runs.long == (Run(1, 56, 73),)
    assert [run.num_rows for run in (*runs.short, *runs.long)] == [16, 1, 17]


def test_a_batch_of_base_rows_has_no_runs():
    runs = _runs((BASE, 3))
    assert (runs.short, runs.long) == ((), ())


def test_a_span_ends_where_more_rows_of_others_follow_than_allowed():
    runs = _runs((0, 1), (1, 2), (BASE, 4), (2, 1), (BASE, 5), (0, 1)).short
    assert split_spans(runs, max_gap=4) == [list(runs[:3]), [runs[3]]]
    assert split_spans((), max_gap=4) == []
