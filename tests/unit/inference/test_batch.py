import torch

from kernels.segments import BASE, make_segments
from services.inference.batch import Slice, make_batch


def test_slices_become_rows_slots_and_segments() -> None:
    slices = [
        Slice(token_ids=[7], start=0, pages=[5], adapter_index=BASE, wants_logits=True),
        Slice(token_ids=[1, 2, 3], start=3, pages=[9, 2], adapter_index=4, wants_logits=False),
        Slice(token_ids=[8], start=8, pages=[1, 3, 6], adapter_index=4, wants_logits=True),
    ]
    batch = make_batch(slices, page_tokens=4, device=torch.device("cpu"))
    assert batch.token_ids_T.tolist() == [7, 1, 2, 3, 8]
    assert batch.positions_T.tolist() == [0, 3, 4, 5, 8]
    assert batch.kv_slots_T.tolist() == [20, 39, 8, 9, 24]
    assert batch.query_starts == (0, 1, 4, 5)
    assert batch.context_lens == (1, 6, 9)
    assert batch.page_table_NP.tolist() == [[5, 0, 0], [9, 2, 0], [1, 3, 6]]
    assert batch.sample_rows_M.tolist() == [0, 4]
    assert batch.token_segments.starts == (0, 1, 5)
    assert batch.token_segments.adapter_indices == (BASE, 4)
    assert batch.sample_segments.starts == (0, 1, 2)
    assert batch.num_tokens == 5


def test_pages_taken_ahead_of_the_tokens_are_not_read() -> None:
    one = Slice(token_ids=[1], start=0, pages=[3, 4, 5], adapter_index=BASE, wants_logits=True)
    assert make_batch([one], page_tokens=4, device=torch.device("cpu")).page_table_NP.tolist() == [[3]]


def test_equal_neighbours_join_and_empty_runs_vanish() -> None:
    segments = make_segments([(2, 1), (2, 3), (BASE, 0), (2, 1), (BASE, 2)], torch.device("cpu"))
    assert segments.starts == (0, 5, 7)
    assert segments.adapter_indices == (2, BASE)
    assert segments.has_adapters
    assert not make_segments([(BASE, 4)], torch.device("cpu")).has_adapters
