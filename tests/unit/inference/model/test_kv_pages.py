from pathlib import Path

import pytest
import torch

from services.inference.model.kv_pages import KvPages, kv_page_elements
from tests.unit.inference.model.tiny_checkpoint import PAGE_TOKENS, write_checkpoint


def test_a_page_is_layers_by_key_and_value_by_tokens_by_heads(tmp_path: Path) -> None:
    config = write_checkpoint(tmp_path)
    elements = kv_page_elements(config, PAGE_TOKENS)
    assert elements == 2 * 2 * PAGE_TOKENS * 2 * 8
    pool_E = torch.zeros(6 * elements)
    pages = KvPages(pool_E, config, PAGE_TOKENS)
    key_TGD, value_TGD = torch.randn(2, 2, 8), torch.randn(2, 2, 8)
    slots_T = torch.tensor([4 * PAGE_TOKENS + 3, 1 * PAGE_TOKENS])
    pages.write(1, pages.rows(slots_T), key_TGD, value_TGD)
    view = pool_E.view(6, config.num_layers, 2, PAGE_TOKENS, 2, 8)
    assert torch.equal(view[4, 1, 0, 3], key_TGD[0])
    assert torch.equal(view[4, 1, 1, 3], value_TGD[0])
    assert torch.equal(view[1, 1, 0, 0], key_TGD[1])
    assert torch.equal(view[1, 1, 1, 0], value_TGD[1])
    assert pool_E.count_nonzero() == key_TGD.numel() + value_TGD.numel()


def test_reading_follows_the_page_table_and_clearing_spares_other_pages(tmp_path: Path) -> None:
    config = write_checkpoint(tmp_path)
    pool_E = torch.randn(6 * kv_page_elements(config, PAGE_TOKENS))
    pages = KvPages(pool_E, config, PAGE_TOKENS)
    view = pool_E.view(6, config.num_layers, 2, PAGE_TOKENS, 2, 8)
    key_NSGD, value_NSGD = pages.read(1, torch.tensor([[5, 0], [2, 2]]))
    assert torch.equal(key_NSGD, torch.stack([view[[5, 0], 1, 0], view[[2, 2], 1, 0]]).view(2, -1, 2, 8))
    assert torch.equal(value_NSGD[0], view[[5, 0], 1, 1].reshape(-1, 2, 8))
    kept = view[[0, 1, 3, 4]].clone()
    pages.clear(torch.tensor([5, 2]))
    assert view[[2, 5]].count_nonzero() == 0
    assert torch.equal(view[[0, 1, 3, 4]], kept)


def test_a_pool_that_is_no_whole_number_of_pages_is_refused(tmp_path: Path) -> None:
    config = write_checkpoint(tmp_path)
    with pytest.raises(ValueError, match="pages"):
        KvPages(torch.zeros(kv_page_elements(config, PAGE_TOKENS) + 1), config, PAGE_TOKENS)
