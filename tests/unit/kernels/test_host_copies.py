import numpy as np
import torch

from kernels.host_copies import HostCopies, SentArrays, to_device

CPU = torch.device("cpu")


def test_arrays_of_any_shape_and_type_arrive_as_they_were() -> None:
    arrays = SentArrays()
    ids = arrays.add([3, -1, 2**40], np.int64)
    halves = arrays.add(np.arange(6).reshape(3, 2).T, np.int64)
    bounds = arrays.add([0.5], np.float32)
    none = arrays.add([], np.int64)
    last = arrays.add([[1.0, 2.0, float("inf")]], np.float32)
    arrays.send(CPU)
    assert arrays[ids].tolist() == [3, -1, 2**40]
    assert arrays[halves].tolist() == [[0, 2, 4], [1, 3, 5]]
    assert arrays[bounds].tolist() == [0.5]
    assert arrays[none].shape == (0,)
    assert arrays[last].tolist() == [[1.0, 2.0, float("inf")]]
    assert (arrays[ids].dtype, arrays[last].dtype) == (torch.int64, torch.float32)
    assert all(
        arrays[index].data_ptr() % 16 == arrays[ids].data_ptr() % 16 for index in (halves, bounds, last)
    )


def test_nothing_to_send_is_fine() -> None:
    SentArrays().send(CPU)
    assert HostCopies((), CPU).wait() == []


def test_values_go_there_and_back() -> None:
    there = to_device([[1, 2], [3, 4]], torch.int32, CPU)
    assert there.dtype == torch.int32
    (back,) = HostCopies([there], CPU).wait()
    assert back.tolist() == [[1, 2], [3, 4]]
