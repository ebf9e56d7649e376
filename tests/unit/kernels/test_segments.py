import torch

from kernels.segments import BASE, make_segments

CPU = torch.device("cpu")


def test_empty_runs_are_dropped_and_equal_neighbours_joined():
    segments = make_segments([(4, 0), (1, 2), (3, 0), (1, 1), (BASE, 2), (4, 1)], CPU)
    assert segments.starts == (0, 3, 5, 6)
    assert segments.adapter_indices == (1, BASE, 4)
    assert segments.starts_S1.tolist() == [0, 3, 5, 6]
    assert segments.adapter_indices_S.tolist() == [1, BASE, 4]
    assert segments.starts_S1.dtype == segments.adapter_indices_S.dtype == torch.int32
    assert segments.has_adapters


def test_base_alone_has_no_adapters():
    assert not make_segments([(BASE, 3)], CPU).has_adapters
    assert not make_segments([], CPU).has_adapters
