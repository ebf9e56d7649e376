import json
import math
import time

import pytest
from peft.utils.other import get_pattern_key

from services.common.errors import Code, Reason, ServiceError
from services.inference.adapters.peft_config import read_peft_config
from tests.unit.inference.adapters.lora_files import CONFIG

MODULES = [
    "model.layers.1.self_attn.q_proj",
    "model.layers.11.self_attn.q_proj",
    "model.layers.1.mlp.down_proj",
    "model.embed_tokens",
    "lm_head",
]


def read(tmp_path, **config):
    path = tmp_path / "adapter_config.json"
    path.write_text(json.dumps(CONFIG | config))
    return read_peft_config(path)


@pytest.mark.parametrize(
    "pattern",
    [
        {"q_proj": 1, "model.layers.1.self_attn.q_proj": 2},
        {"model.layers.1.self_attn.q_proj": 2, "q_proj": 1},
        {"layers.1.*": 3},
        {r".*\.layers\.\d\.mlp\.down_proj": 5},
        {"q_proj|lm_head": 6},
        {"proj": 7},
        {"^model.embed_tokens": 8, "lm_head": 9},
        {"layers.1.self_attn": 10},
    ],
)
def test_patterns_match_as_pefts_own(tmp_path, pattern):
    config = read(tmp_path, rank_pattern=pattern, alpha_pattern=dict.fromkeys(pattern, 3.0))
    for module in MODULES:
        key = get_pattern_key(pattern.keys(), module)
        rank = pattern.get(key, CONFIG["r"])
        assert config.rank(module) == rank
        assert config.scale(module) == (3.0 if key in pattern else CONFIG["lora_alpha"]) / rank


def test_rslora_divides_by_the_root_of_the_true_rank(tmp_path):
    config = read(tmp_path, use_rslora=True, rank_pattern={"lm_head": 9})
    assert config.scale("lm_head") == pytest.approx(8 / math.sqrt(9))
    assert config.scale("model.embed_tokens") == pytest.approx(8 / math.sqrt(4))


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("peft_type", "IA3"),
        ("bias", "all"),
        ("init_lora_weights", "pissa"),
        ("init_lora_weights", "olora"),
        ("fan_in_fan_out", True),
        ("lora_bias", True),
        ("modules_to_save", ["lm_head"]),
        ("trainable_token_indices", [1]),
        ("layer_replication", [[0, 1]]),
        ("target_parameters", ["x"]),
        ("alora_invocation_tokens", [1]),
        ("use_qalora", True),
        ("ensure_weight_tying", True),
        ("an_option_of_tomorrow", 1),
    ],
)
def test_options_that_are_not_served_are_refused_by_name(tmp_path, option, value):
    with pytest.raises(ServiceError) as caught:
        read(tmp_path, **{option: value})
    assert (caught.value.code, caught.value.reason) == (Code.FAILED_PRECONDITION, Reason.UNSUPPORTED_ADAPTER)
    assert caught.value.field == option


@pytest.mark.parametrize(
    ("option", "value", "field"),
    [
        ("r", 0, "r"),
        ("r", True, "r"),
        ("r", None, "r"),
        ("lora_alpha", "8", "lora_alpha"),
        ("lora_alpha", float("nan"), "lora_alpha"),
        ("use_dora", "yes", "use_dora"),
        ("rank_pattern", {"q_proj": 1.5}, "rank_pattern.q_proj"),
        ("rank_pattern", [1], "rank_pattern"),
        ("alpha_pattern", {"(": 1}, "alpha_pattern.("),
        ("alpha_pattern", {"a" * 300: 1}, "alpha_pattern." + "a" * 80),
    ],
)
def test_illegal_values_are_refused_by_name(tmp_path, option, value, field):
    with pytest.raises(ServiceError) as caught:
        read(tmp_path, **{option: value})
    assert (caught.value.reason, caught.value.field) == (Reason.INVALID_ADAPTER, field)


@pytest.mark.parametrize("text", ["", "[]", "{", '"x"', "[" * 100_000])
def test_what_is_no_json_object_is_refused(tmp_path, text):
    path = tmp_path / "adapter_config.json"
    path.write_text(text)
    with pytest.raises(ServiceError, match=r"adapter_config\.json"):
        read_peft_config(path)


@pytest.mark.parametrize("evil", ["(.+)+X", "(a|aa)+X", "(.*)*X", ".*.*.*.*.*X", "([a-z.]{1,9}){9}X"])
def test_a_pattern_made_to_match_forever_is_refused(tmp_path, evil):
    began_s = time.monotonic()
    with pytest.raises(ServiceError) as caught:
        read(tmp_path, rank_pattern={evil: 2}).rank("model.layers.1.self_attn.q_proj" * 3)
    assert caught.value.reason is Reason.UNSUPPORTED_ADAPTER
    assert time.monotonic() - began_s < 1
