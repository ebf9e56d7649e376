import pytest
import torch

from services.common.errors import Reason, ServiceError
from services.inference.adapters.adapter_weights import read_adapter_weights
from tests.unit.inference.adapters.lora_files import (
    DOWN1,
    EMBED,
    HEAD,
    HIDDEN,
    INNER,
    Q0,
    SITES,
    VOCAB,
    linear,
    write,
)


def refusal(directory, max_rank=64):
    with pytest.raises(ServiceError) as caught:
        read_adapter_weights(directory, SITES, max_rank)
    return caught.value


def test_sites_in_order_with_a_and_b_transposed_rank_and_scale(tmp_path):
    tensors = linear(DOWN1, 6, width=INNER) | linear(Q0, 4)
    directory = write(
        tmp_path, tensors, rank_pattern={"layers.1.mlp.down_proj": 6}, alpha_pattern={"q_proj": 2}
    )
    weights = read_adapter_weights(directory, SITES, 64)
    assert [site.site.index for site in weights.sites] == [0, 3]
    assert [(site.rank, site.scale) for site in weights.sites] == [(4, 2 / 4), (6, 8 / 6)]
    assert weights.rank == 6
    torch.testing.assert_close(weights.sites[1].a_RI, tensors[f"{DOWN1}.lora_A.weight"])
    torch.testing.assert_close(weights.sites[1].b_RO, tensors[f"{DOWN1}.lora_B.weight"].T)


def test_embedding_lm_head_and_their_base_copies(tmp_path):
    base_VH = torch.randn(VOCAB, HIDDEN)
    tensors = linear(HEAD, 4, out=VOCAB) | {
        f"{EMBED}.lora_embedding_A": torch.randn(4, VOCAB),
        f"{EMBED}.lora_embedding_B": torch.randn(HIDDEN, 4),
        f"{EMBED}.base_layer.weight": base_VH,
        f"{HEAD}.base_layer.weight": base_VH.clone(),
    }
    weights = read_adapter_weights(write(tmp_path, tensors), SITES, 64)
    assert [(site.site.name, tuple(site.a_RI.shape)) for site in weights.sites] == [
        ("embed_tokens", (4, VOCAB)),
        ("lm_head", (4, HIDDEN)),
    ]
    assert [tuple(copy.weight_OI.shape) for copy in weights.base_copies] == [(HIDDEN, VOCAB), (VOCAB, HIDDEN)]


@pytest.mark.parametrize("suffix", [".lora_magnitude_vector", ".lora_magnitude_vector.weight"])
def test_dora_has_its_magnitude(tmp_path, suffix):
    magnitude = torch.rand(HIDDEN)
    directory = write(tmp_path, linear(Q0, 4) | {f"{Q0}{suffix}": magnitude}, use_dora=True)
    [site] = read_adapter_weights(directory, SITES, 64).sites
    torch.testing.assert_close(site.magnitude_O, magnitude)


MAGNITUDE = f"{Q0}.lora_magnitude_vector"
NEW = "base_model.model.model"


@pytest.mark.parametrize(
    ("extra", "config", "field", "reason"),
    [
        ({"x": torch.zeros(1)}, {}, "x", "UNSUPPORTED_ADAPTER"),
        ({f"{Q0}.bias": torch.zeros(1)}, {}, f"{Q0}.bias", "UNSUPPORTED_ADAPTER"),
        ({f"{Q0}.lora_C.weight": torch.zeros(1)}, {}, f"{Q0}.lora_C.weight", "BASE_MODEL_MISMATCH"),
        ({f"{Q0}.weight": torch.zeros(HIDDEN, HIDDEN)}, {}, f"{Q0}.weight", "UNSUPPORTED_ADAPTER"),
        (linear(f"{NEW}.layers.9.mlp.down_proj", 4), {}, "layers.9", "BASE_MODEL_MISMATCH"),
        (linear(f"{NEW}.lm_head", 4), {}, "model.lm_head", "BASE_MODEL_MISMATCH"),
        (linear(EMBED, 4), {}, "embed_tokens", "INVALID_ADAPTER"),
        (linear(DOWN1, 4, width=INNER + 1), {}, f"{DOWN1}.lora_A.weight", "BASE_MODEL_MISMATCH"),
        (linear(DOWN1, 4, width=INNER, out=1), {}, f"{DOWN1}.lora_B.weight", "BASE_MODEL_MISMATCH"),
        (linear(DOWN1, 5, width=INNER), {}, f"{DOWN1}.lora_A.weight", "BASE_MODEL_MISMATCH"),
        ({f"{DOWN1}.lora_A.weight": torch.zeros(4, INNER)}, {}, DOWN1, "INVALID_ADAPTER"),
        ({f"{DOWN1}.lora_B.weight": torch.zeros(HIDDEN, 4)}, {}, DOWN1, "INVALID_ADAPTER"),
        ({}, {"use_dora": True}, Q0, "INVALID_ADAPTER"),
        ({MAGNITUDE: torch.ones(HIDDEN)}, {}, "magnitude", "INVALID_ADAPTER"),
        (
            {MAGNITUDE: torch.ones(3)},
            {"use_dora": True},
            "magnitude",
            "BASE_MODEL_MISMATCH",
        ),
        ({f"{HEAD}.weight": torch.ones(3, 3)}, {}, f"{HEAD}.weight", "BASE_MODEL_MISMATCH"),
        ({f"{Q0}.lora_A.weight": torch.full((4, HIDDEN), torch.nan)}, {}, f"{Q0}.lora_A", "INVALID_ADAPTER"),
        ({f"{Q0}.lora_B.weight": torch.full((HIDDEN, 4), torch.inf)}, {}, f"{Q0}.lora_B", "INVALID_ADAPTER"),
        ({f"{Q0}.lora_A.weight": torch.ones(4, HIDDEN, dtype=torch.int8)}, {}, Q0, "UNSUPPORTED_ADAPTER"),
        (linear(Q0, 65), {"r": 65}, "model.layers.0.self_attn.q_proj", "ADAPTER_NOT_LOADABLE"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(tmp_path, extra, config, field, reason):
    error = refusal(write(tmp_path, linear(Q0, 4) | extra, **config))
    assert error.reason is Reason(reason), error
    assert field in error.field
    assert error.field in error.message


def test_a_file_that_is_no_safetensors_is_refused(tmp_path):
    directory = write(tmp_path, linear(Q0, 4))
    (directory / "adapter_model.safetensors").write_bytes(b"\x80\x04pickle")
    assert refusal(directory).reason is Reason.INVALID_ADAPTER


def test_an_adapter_without_weights_is_refused(tmp_path):
    error = refusal(write(tmp_path, {f"{HEAD}.weight": torch.zeros(VOCAB, HIDDEN)}))
    assert "no LoRA weights" in error.message
