from services.inference.adapters.read_buffers import ReadBuffers


def test_a_buffer_is_lent_again_and_to_one_at_a_time():
    buffers = ReadBuffers(1000, 2)
    with buffers.lend(100) as first, buffers.lend(100) as second:
        assert first.ctypes.data != second.ctypes.data
        assert (len(first), len(second)) == (100, 100)
        addresses = {first.ctypes.data, second.ctypes.data}
    with buffers.lend(50) as one, buffers.lend(100) as other:
        assert {one.ctypes.data, other.ctypes.data} == addresses
        assert len(one) == 50


def test_the_larger_ones_are_kept():
    buffers = ReadBuffers(1000, 2)
    with buffers.lend(10), buffers.lend(100), buffers.lend(50):
        pass
    assert sorted(len(kept) for kept in buffers._free) == [50, 100]
    for num_bytes, taken in ((70, 100), (50, 50), (7, 50)):
        with buffers.lend(num_bytes) as found:
            assert len(found.base) == taken


def test_what_is_too_large_is_not_kept():
    buffers = ReadBuffers(1000, 2)
    with buffers.lend(1001):
        pass
    assert buffers._free == []
