import json

import pytest

from services.adapter_store.manifest import peft_config
from services.adapter_store.manifest.peft_config import read_config
from services.common.errors import Code, Reason, ServiceError
from tests.adapter_files import BASE_MODEL, CONFIG, config


def read(**changes):
    return read_config(json.dumps(config(**changes)).encode(), BASE_MODEL)


def refusal(**changes):
    with pytest.raises(ServiceError) as caught:
        read(**changes)
    return caught.value


def test_a_plain_config():
    found = read()
    assert (found.r, found.lora_alpha, found.rslora, found.dora) == (4, 8.0, False, False)
    assert found.rank_of("model.layers.0.self_attn.q_proj") == 4


def test_ranks_by_pattern_first_match_wins():
    found = read(
        rank_pattern={"layers.1.self_attn.q_proj": 2, "q_proj": 6, ".*mlp.*": 3},
        alpha_pattern={"q_proj": 0.5},
    )
    ranks = [
        found.rank_of(f"model.layers.{n}")
        for n in ("1.self_attn.q_proj", "0.self_attn.q_proj", "0.mlp.up_proj")
    ]
    assert ranks == [2, 6, 3]
    assert found.rank_of("lm_head") == 4


@pytest.mark.parametrize(
    "changes",
    [
        {"peft_type": "LOHA"},
        {"peft_type": None},
        {"task_type": "SEQ_CLS"},
        {"bias": "all"},
        {"bias": "lora_only"},
        {"init_lora_weights": "pissa"},
        {"init_lora_weights": "pissa_niter_16"},
        {"init_lora_weights": "olora"},
        {"init_lora_weights": "corda"},
        {"init_lora_weights": "loftq"},
        {"init_lora_weights": "lora_ga"},
        {"init_lora_weights": 1},
        {"init_lora_weights": {"a": 1}},
        {"fan_in_fan_out": True},
        {"modules_to_save": ["lm_head"]},
        {"megatron_config": {"a": 1}},
        {"trainable_token_indices": [1]},
        {"velora_config": {"a": 1}},
        {"alora_invocation_tokens": [1]},
        {"use_qalora": True},
        {"monteclora_config": {"a": 1}},
        {"layer_replication": [[0, 1]]},
        {"lora_bias": True},
        {"target_parameters": ["x"]},
        {"use_bdlora": {"a": 1}},
        {"arrow_config": {"a": 1}},
        {"kasa_config": {"a": 1}},
        {"ensure_weight_tying": True},
        {"some_future_option": True},
    ],
    ids=str,
)
def test_options_that_are_not_served_are_refused_by_name(changes):
    (key,) = changes
    error = refusal(**changes)
    assert (error.code, error.reason) == (Code.FAILED_PRECONDITION, Reason.UNSUPPORTED_ADAPTER)
    assert error.field == key
    assert error.message.startswith(f"{key}: ")


@pytest.mark.parametrize(
    "changes",
    [
        {"init_lora_weights": False},
        {"init_lora_weights": "gaussian"},
        {"init_lora_weights": "eva"},
        {"init_lora_weights": "mica"},
        {"eva_config": {"rho": 2.0}},
        {"modules_to_save": []},
        {"task_type": None},
        {"some_future_option": False},
        {"some_future_option": None},
        {"revision": "main"},
        {"rank_pattern": None},
        {"layers_to_transform": [0], "layers_pattern": "layers"},
        {"use_rslora": True},
        {"use_dora": True},
        {"base_model_name_or_path": ""},
        {"base_model_name_or_path": None},
        {"base_model_name_or_path": "x/tiny/"},
        {"target_modules": "all-linear"},
        {"target_modules": None},
    ],
    ids=str,
)
def test_what_does_not_change_the_weights_is_taken(changes):
    read(**changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"r": 0},
        {"r": -1},
        {"r": 4.0},
        {"r": True},
        {"r": None},
        {"r": "4"},
        {"lora_alpha": None},
        {"lora_alpha": "8"},
        {"lora_alpha": 1e300},
        {"lora_alpha": True},
        {"rank_pattern": [1]},
        {"use_rslora": "yes"},
        {"use_dora": 1},
        {"target_modules": [1]},
        {"target_modules": {"a": 1}},
        {"base_model_name_or_path": 7},
    ],
    ids=str,
)
def test_values_that_make_no_sense_name_the_key(changes):
    (key,) = changes
    error = refusal(**changes)
    assert (error.code, error.reason, error.field) == (Code.INVALID_ARGUMENT, Reason.INVALID_ADAPTER, key)


@pytest.mark.parametrize(
    ("option", "value"),
    [("rank_pattern", 0), ("rank_pattern", 2.5), ("alpha_pattern", "x"), ("alpha_pattern", None)],
)
def test_pattern_values(option, value):
    assert refusal(**{option: {"q_proj": value}}).field == f"{option}[q_proj]"


@pytest.mark.parametrize("text", ["1e999", "NaN", "-Infinity"])
def test_alpha_must_be_finite(text):
    data = json.dumps(config(lora_alpha=12345)).replace("12345", text).encode()
    with pytest.raises(ServiceError) as caught:
        read_config(data, BASE_MODEL)
    assert caught.value.reason is Reason.INVALID_ADAPTER


def test_another_base_model():
    error = refusal(base_model_name_or_path="meta-llama/Llama-3.1-8B")
    assert (error.code, error.reason) == (Code.FAILED_PRECONDITION, Reason.BASE_MODEL_MISMATCH)
    assert error.field == "base_model_name_or_path"
    assert "acme/tiny" in error.message
    assert "Llama-3.1-8B" in error.message


@pytest.mark.parametrize("data", [b"", b"[]", b"{", b'{"r":1,"r":2}', b"\xff", b"[" * 100_000, b"{}"])
def test_what_is_no_config(data):
    with pytest.raises(ServiceError) as caught:
        read_config(data, BASE_MODEL)
    assert caught.value.field in (CONFIG, "peft_type")


def test_every_option_of_peft_is_judged_once():
    """The plain config has every field that PEFT 0.21 writes; each is read, ignored or refused."""
    groups = [peft_config._READ, peft_config._TRAINING_ONLY, set(peft_config._REFUSED)]
    judged = set().union(*groups)
    assert config().keys() <= judged
    assert sum(map(len, groups)) == len(judged)
