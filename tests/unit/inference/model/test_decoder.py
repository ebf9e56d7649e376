from pathlib import Path

import pytest
import torch

from services.inference.batch import Slice, make_batch
from services.inference.model.decoder import Decoder
from services.inference.model.sites import lora_sites
from services.inference.model.weights import load_weights
from tests.unit.inference.model.tiny_checkpoint import CPU, PAGE_TOKENS, TinyDecoder, part, tokens

# Sums in another order, in float32, on logits of order 1.
ROUNDING = 1e-5


def test_chunks_and_single_steps_give_the_logits_of_one_pass(tmp_path: Path) -> None:
    tiny = TinyDecoder(tmp_path)
    ids = tokens(1, 15)
    whole = tiny.forward(part(ids, 0, 15, [9, 3, 30, 11]))
    for start, stop in [(0, 6), (6, 8), (8, 13), (13, 14), (14, 15)]:
        last = tiny.forward(part(ids, start, stop, [2, 39, 0, 17]))
    torch.testing.assert_close(last, whole, rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("window", [None, 5])
def test_a_sequence_gets_the_same_logits_alone_and_in_any_batch(tmp_path: Path, window: int | None) -> None:
    tiny = TinyDecoder(tmp_path, architectures=["MistralForCausalLM"], sliding_window=window)
    ids, other, third = tokens(1, 9), tokens(2, 30), tokens(3, 12)
    alone = [tiny.forward(part(ids, 0, 8, [1, 2, 3])), tiny.forward(part(ids, 8, 9, [1, 2, 3]))]
    pages = list(range(10, 18))
    first = tiny.forward(part(other, 0, 29, pages), part(ids, 0, 8, [6, 5, 4]))
    second = tiny.forward(
        part(third, 0, 12, [20, 21, 22]), part(ids, 8, 9, [6, 5, 4]), part(other, 29, 30, pages)
    )
    torch.testing.assert_close(first[1], alone[0][0], rtol=0, atol=ROUNDING)
    torch.testing.assert_close(second[1], alone[1][0], rtol=0, atol=ROUNDING)


def test_what_unused_slots_hold_never_shows(tmp_path: Path) -> None:
    tiny = TinyDecoder(tmp_path)
    ids = tokens(4, 10)
    clean = tiny.forward(part(ids, 0, 10, [1, 2, 3]))
    for poison in (float("nan"), float("inf"), 1e30):
        for page in (1, 2, 3):
            tiny.page(page).fill_(poison)
        tiny.forward(part(ids, 0, 9, [1, 2, 3]), part(tokens(5, 30), 0, 30, list(range(10, 18))))
        again = tiny.forward(part(ids, 9, 10, [1, 2, 3]), part(tokens(6, 1), 0, 1, [20]))
        torch.testing.assert_close(again[0], clean[0], rtol=0, atol=ROUNDING)


def test_a_sequence_with_nan_keys_spoils_nobody_else(tmp_path: Path) -> None:
    tiny = TinyDecoder(tmp_path)
    ids, sick = tokens(1, 6), tokens(2, 20)
    healthy_pages, sick_pages = [1, 2], [4, 5, 6, 7, 8]
    tiny.forward(part(ids, 0, 5, healthy_pages), part(sick, 0, 19, sick_pages))
    before = tiny.page(1).clone()
    tiny.page(5).fill_(float("nan"))
    logits = tiny.forward(part(sick, 19, 20, sick_pages), part(ids, 5, 6, healthy_pages))
    assert torch.isnan(logits[0]).all()
    assert torch.isfinite(logits[1]).all()
    assert torch.equal(tiny.page(1), before)


def test_only_the_batch_s_own_pages_are_written(tmp_path: Path) -> None:
    tiny = TinyDecoder(tmp_path)
    tiny.forward(part(tokens(1, 6), 0, 6, [5, 7]), part(tokens(2, 1), 0, 1, [3]))
    touched = [page for page in range(40) if not torch.isnan(tiny.page(page)).all()]
    assert touched == [3, 5, 7]


def test_base_batches_do_no_lora_work(tmp_path: Path) -> None:
    tiny = TinyDecoder(tmp_path)
    tiny.forward(part(tokens(1, 6), 0, 6, [5, 7]))
    assert tiny.sgmv.calls == []


def test_every_site_is_offered_to_lora_once_in_order(tmp_path: Path) -> None:
    tiny = TinyDecoder(tmp_path, architectures=["Qwen2ForCausalLM"])
    tiny.forward(part(tokens(1, 6), 0, 6, [5, 7]), part(tokens(2, 3), 0, 3, [8], adapter_index=2))
    offered = [name for names in tiny.sgmv.calls for name in names]
    names = [site.name for site in lora_sites(tiny.config)]
    assert offered == ["embed_tokens", *names[:-2], "lm_head"]
    qkv_biases = [bias for bias in tiny.sgmv.biases if bias is not None]
    assert [bias.shape for bias in qkv_biases] == [(64,)] * tiny.config.num_layers


def test_lm_head_sees_no_adapter_when_only_base_rows_are_sampled(tmp_path: Path) -> None:
    tiny = TinyDecoder(tmp_path)
    prefill = Slice(token_ids=tokens(1, 4), start=0, pages=[5], adapter_index=0, wants_logits=False)
    logits = tiny.forward(prefill, part(tokens(2, 3), 0, 3, [8]))
    assert logits.shape == (1, 61)
    assert ("embed_tokens",) in tiny.sgmv.calls
    assert ("lm_head",) not in tiny.sgmv.calls


def test_a_step_that_samples_nothing_gives_no_rows(tmp_path: Path) -> None:
    tiny = TinyDecoder(tmp_path)
    prefill = Slice(token_ids=tokens(1, 4), start=0, pages=[5], adapter_index=0, wants_logits=False)
    assert tiny.forward(prefill).shape == (0, 61)


def test_logits_are_float32_when_the_model_is_not(tmp_path: Path) -> None:
    tiny = TinyDecoder(tmp_path)
    exact = tiny.forward(part(tokens(1, 6), 0, 6, [5, 7]))
    weights = load_weights(tmp_path, tiny.config, torch.bfloat16, CPU)
    decoder = Decoder(tiny.config, weights, tiny.pool_E.bfloat16(), PAGE_TOKENS, tiny.sgmv)
    logits = decoder.forward(make_batch([part(tokens(1, 6), 0, 6, [5, 7])], PAGE_TOKENS, CPU))
    assert logits.dtype == torch.float32
    # bfloat16 keeps 8 bits, lost again at each of some twenty roundings.
    bound = 20 * 2**-8 * exact.abs().max().item()
    assert 0 < (logits - exact).abs().max().item() < bound


def test_a_pool_of_another_dtype_is_refused(tmp_path: Path) -> None:
    tiny = TinyDecoder(tmp_path)
    with pytest.raises(ValueError, match="does not fit"):
        Decoder(tiny.config, tiny.weights, tiny.pool_E.bfloat16(), PAGE_TOKENS, tiny.sgmv)


@pytest.mark.parametrize("tied", [True, False])
def test_site_weights_are_views_of_the_right_shape(tmp_path: Path, tied: bool) -> None:
    tiny = TinyDecoder(tmp_path, tie_word_embeddings=tied)
    sites = lora_sites(tiny.config)
    for site in sites:
        weight = tiny.decoder.site_weight(site)
        assert weight.shape == (site.out_features, site.in_features), site.name
    layer = tiny.weights.layers[1]
    by_name = {site.name: tiny.decoder.site_weight(site) for site in sites}
    assert torch.equal(by_name["layers.1.self_attn.k_proj"], layer.qkv_OI[32:48])
    assert torch.equal(by_name["layers.1.mlp.up_proj"], layer.gate_up_OI[40:])
    assert by_name["layers.1.mlp.down_proj"].data_ptr() == layer.down_OI.data_ptr()
    assert (by_name["lm_head"].data_ptr() == by_name["embed_tokens"].data_ptr()) == tied


def test_a_step_passes_every_gate_in_order(tmp_path):
    passed = []

    class Gates:
        def wait(self, layer):
            passed.append(layer)

    tiny = TinyDecoder(tmp_path)
    batch = make_batch([part(tokens(1, 6), 0, 6, [5, 7])], PAGE_TOKENS, CPU)
    tiny.decoder.forward(batch, Gates())
    assert passed == list(range(tiny.config.num_layers + 1))
