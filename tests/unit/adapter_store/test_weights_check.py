import numpy as np
import pytest

from services.adapter_store.manifest import weights_check
from services.common.errors import Code, Reason, ServiceError
from tests.adapter_files import HIDDEN, MAX_RANK, VOCAB, WEIGHTS, adapter_files, layer, lora, prefix
from tests.unit.adapter_store.conftest import judge

Q = layer(0, "self_attn.q_proj")
QA, QB, QM = (prefix(Q) + end for end in ("lora_A.weight", "lora_B.weight", "lora_magnitude_vector"))


def refusal(tensors, **config_changes):
    with pytest.raises(ServiceError) as caught:
        judge(adapter_files(tensors, **config_changes))
    return caught.value


def test_a_plain_adapter():
    summary = judge(adapter_files())
    assert (summary.rank, summary.alpha, summary.rslora, summary.dora) == (4, 8.0, False, False)
    assert summary.target_modules == ("mlp.down_proj", "self_attn.q_proj")
    assert summary.num_parameters == 4 * (HIDDEN + HIDDEN) + 4 * (12 + HIDDEN)


@pytest.mark.parametrize(
    ("tensors", "changes", "rank"),
    [
        (lora(Q, dtype=np.float16), {}, 4),
        ({name: np.full(array.shape, 0x3F80, np.uint16) for name, array in lora(Q).items()}, {}, 4),
        (lora(Q, dora=True), {"use_dora": True}, 4),
        (
            lora(Q, rank=3) | lora(layer(1, "mlp.up_proj"), rank=12),
            {"r": 12, "rank_pattern": {"q_proj": 3}},
            12,
        ),
        (lora("model.embed_tokens"), {}, 4),
        (lora("lm_head", dora=True), {"use_dora": True}, 4),
        (lora(Q, rank=MAX_RANK), {"r": MAX_RANK}, MAX_RANK),
        (lora(Q, rank=2), {"r": 99, "rank_pattern": {"q_proj": 2}}, 2),
        (lora(Q), {"use_rslora": True, "target_modules": "all-linear"}, 4),
        (lora(Q), {"target_modules": [Q]}, 4),
    ],
)
def test_variants_that_are_served(tensors, changes, rank):
    summary = judge(adapter_files(tensors, **changes))
    assert summary.rank == rank
    assert summary.dora == changes.get("use_dora", False)
    assert summary.rslora == changes.get("use_rslora", False)


def test_dora_magnitude_under_its_older_name():
    tensors = lora(Q, dora=True)
    tensors[QM + ".weight"] = tensors.pop(QM)
    assert judge(adapter_files(tensors, use_dora=True)).dora
    tensors[QM] = tensors[QM + ".weight"]
    assert refusal(tensors, use_dora=True).reason is Reason.INVALID_ADAPTER


@pytest.mark.parametrize(("missing", "left", "lacking"), [(QA, QB, "A"), (QB, QA, "B")])
def test_half_a_pair(missing, left, lacking):
    tensors = lora(Q)
    del tensors[missing]
    error = refusal(tensors)
    assert (error.code, error.reason, error.field) == (Code.INVALID_ARGUMENT, Reason.INVALID_ADAPTER, left)
    assert f"LoRA {lacking} of {Q}" in error.message


def test_no_lora_tensors():
    assert refusal({}).field == WEIGHTS


@pytest.mark.parametrize(
    ("name", "shape", "reason"),
    [
        (QA, (4, HIDDEN + 1), Reason.BASE_MODEL_MISMATCH),
        (QB, (HIDDEN + 1, 4), Reason.BASE_MODEL_MISMATCH),
        (QA, (5, HIDDEN), Reason.INVALID_ADAPTER),
        (QB, (HIDDEN, 3), Reason.INVALID_ADAPTER),
        (QA, (HIDDEN, 4), Reason.INVALID_ADAPTER),
        (QA, (4 * HIDDEN,), Reason.INVALID_ADAPTER),
        (QA, (4, HIDDEN, 1), Reason.INVALID_ADAPTER),
        (QA, (0, HIDDEN), Reason.INVALID_ADAPTER),
        (QA, (), Reason.INVALID_ADAPTER),
    ],
)
def test_shapes(name, shape, reason):
    error = refusal(lora(Q) | {name: np.ones(shape, np.float32)})
    assert (error.reason, error.field) == (reason, name)
    assert "expected" in error.message


def test_shapes_of_embeddings_are_not_transposed():
    names = [prefix("model.embed_tokens") + f"lora_embedding_{half}" for half in "AB"]
    assert lora("model.embed_tokens")[names[0]].shape == (4, VOCAB)
    swapped = dict(
        zip(names, (np.ones((VOCAB, 4), np.float32), np.ones((4, HIDDEN), np.float32)), strict=True)
    )
    assert refusal(swapped).field == names[0]


@pytest.mark.parametrize("changes", [{"r": 8}, {"rank_pattern": {"q_proj": 2}}])
def test_rank_of_config_against_tensor(changes):
    error = refusal(lora(Q), **changes)
    assert (error.reason, error.field) == (Reason.INVALID_ADAPTER, QA)
    assert "rank_pattern" in error.message


def test_rank_over_the_ceiling():
    error = refusal(lora(Q, rank=MAX_RANK + 1), r=MAX_RANK + 1)
    assert (error.code, error.reason, error.field) == (
        Code.FAILED_PRECONDITION,
        Reason.BASE_MODEL_MISMATCH,
        QA,
    )
    assert str(MAX_RANK) in error.message


@pytest.mark.parametrize(
    "path",
    [
        "model.layers.2.self_attn.q_proj",
        "model.layers.0.self_attn.v_proj",
        "model.layers.00.self_attn.q_proj",
        "model.layers.0.lm_head",
        "model.norm",
        "transformer.h.0.attn.c_attn",
        "model.layers.x.self_attn.q_proj",
        "embed_tokens",
        "model.lm_head",
        "model.layers.999999999.self_attn.q_proj",
        "self_attn.q_proj",
    ],
)
def test_modules_and_layers_that_the_base_lacks(path):
    tensors = {prefix(path) + f"lora_{half}.weight": np.ones((4, 4), np.float32) for half in "AB"}
    error = refusal(tensors)
    assert (error.code, error.reason) == (Code.FAILED_PRECONDITION, Reason.BASE_MODEL_MISMATCH)
    assert error.field == prefix(path) + "lora_A.weight"


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        (prefix(Q) + "lora_A.default.weight", Reason.INVALID_ADAPTER),
        (prefix(Q) + "lora_C.weight", Reason.INVALID_ADAPTER),
        (Q + ".lora_A.weight", Reason.INVALID_ADAPTER),
        ("weight", Reason.INVALID_ADAPTER),
        (prefix("model.embed_tokens") + "lora_A.weight", Reason.INVALID_ADAPTER),
        (prefix(Q) + "lora_embedding_A", Reason.INVALID_ADAPTER),
        (prefix(Q) + "base_layer.weight", Reason.UNSUPPORTED_ADAPTER),
        (prefix(Q) + "lora_B.bias", Reason.UNSUPPORTED_ADAPTER),
    ],
)
def test_tensors_that_are_no_part_of_lora(name, reason):
    error = refusal(lora(Q) | {name: np.ones((4, HIDDEN), np.float32)})
    assert (error.reason, error.field) == (reason, name)


def test_a_module_that_the_config_does_not_target():
    error = refusal(lora(Q), target_modules=["k_proj"])
    assert (error.reason, error.field) == (Reason.INVALID_ADAPTER, QA)


@pytest.mark.parametrize("dtype", [np.float64, np.int32])
def test_dtypes_that_are_not_served(dtype):
    error = refusal(lora(Q) | {QB: np.ones((HIDDEN, 4), dtype)})
    assert (error.code, error.reason, error.field) == (
        Code.FAILED_PRECONDITION,
        Reason.UNSUPPORTED_ADAPTER,
        QB,
    )


def test_dora():
    assert refusal(lora(Q), use_dora=True).field == QA
    assert refusal(lora(Q, dora=True)).field == QM
    wrong = lora(Q, dora=True) | {QM: np.ones((1, HIDDEN), np.float32)}
    assert (refusal(wrong, use_dora=True).reason, refusal(wrong, use_dora=True).field) == (
        Reason.BASE_MODEL_MISMATCH,
        QM,
    )
    judge(adapter_files(lora("model.embed_tokens", dora=True), use_dora=True))
    alone = {QM: np.ones(HIDDEN, np.float32)}
    assert refusal(alone, use_dora=True).field == QM


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
@pytest.mark.parametrize("place", [0, -1])
def test_values_that_are_not_finite(bad, dtype, place):
    tensors = lora(Q, dtype=dtype) | lora(layer(1, "mlp.up_proj"), dtype=dtype)
    tensors[QB].flat[place] = bad
    error = refusal(tensors)
    assert (error.code, error.reason, error.field) == (Code.INVALID_ARGUMENT, Reason.INVALID_ADAPTER, QB)


@pytest.mark.parametrize("bits", [0x7F80, 0xFF80, 0x7FC0, 0x7F81])
def test_values_that_are_not_finite_in_bf16(bits):
    tensors = {name: np.full(array.shape, 0x7F7F, np.uint16) for name, array in lora(Q).items()}
    judge(adapter_files(tensors))
    tensors[QA][1, 1] = bits
    assert refusal(tensors).field == QA


def test_a_bad_value_in_any_chunk_is_found(monkeypatch):
    monkeypatch.setattr(weights_check, "SCAN_CHUNK_BYTES", 16)
    judge(adapter_files(lora(Q)))
    for place in range(4 * HIDDEN):
        tensors = lora(Q)
        tensors[QA].flat[place] = np.nan
        assert refusal(tensors).field == QA


BASE_COPIES = [
    prefix("model.embed_tokens") + "base_layer.weight",
    prefix("model.embed_tokens") + "weight",
    prefix("lm_head") + "base_layer.weight",
    prefix("lm_head") + "weight",
]


@pytest.mark.parametrize("name", BASE_COPIES)
def test_copies_of_the_base_s_embeddings_are_taken_as_peft_saves_them(name):
    alone = judge(adapter_files(lora("lm_head")))
    copied = judge(adapter_files(lora("lm_head") | {name: np.ones((VOCAB, HIDDEN), np.float32)}))
    assert copied == alone


@pytest.mark.parametrize("name", BASE_COPIES)
@pytest.mark.parametrize("shape", [(VOCAB + 1, HIDDEN), (HIDDEN, VOCAB), (VOCAB * HIDDEN,)])
def test_embeddings_of_another_vocabulary(name, shape):
    error = refusal(lora("lm_head") | {name: np.ones(shape, np.float32)})
    assert (error.reason, error.field) == (Reason.BASE_MODEL_MISMATCH, name)
    assert refusal(lora("lm_head") | {name: np.ones(shape, np.int32)}).reason is Reason.UNSUPPORTED_ADAPTER


@pytest.mark.parametrize("name", BASE_COPIES)
def test_copies_alone_are_no_adapter(name):
    assert refusal({name: np.ones((VOCAB, HIDDEN), np.float32)}).field == WEIGHTS
