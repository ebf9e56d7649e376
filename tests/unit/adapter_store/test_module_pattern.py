import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.adapter_store.manifest.module_pattern import MAX_PATTERNS, compile_patterns
from services.common.errors import Reason, ServiceError

PATH = "model.layers.1.self_attn.q_proj"


def peft_key(keys, path):
    """PEFT's rule, as its documentation of rank_pattern states it."""
    return next((key for key in keys if re.match(rf"(.*\.)?({key})$", path)), None)


@pytest.mark.parametrize(
    "keys",
    [
        ["q_proj"],
        ["self_attn.q_proj"],
        ["layers.1.self_attn.q_proj"],
        [PATH],
        ["^" + PATH],
        ["k_proj", "q_proj"],
        [".*q_proj"],
        [r".*\.layers\.(0|1)\..*proj"],
        ["layers.[0-3].self_attn.(q|k)_proj"],
        [r"\d+\.self_attn\.\w_proj"],
        ["proj"],
        ["attn.q_proj"],
        ["_proj"],
        ["q_pro"],
        ["layers.11.self_attn.q_proj"],
        ["^self_attn.q_proj"],
    ],
)
def test_matches_where_peft_matches(keys):
    compiled = compile_patterns("rank_pattern", keys)
    found = next((key for key, pattern in zip(keys, compiled, strict=True) if pattern.match(PATH)), None)
    assert found == peft_key(keys, PATH)


@pytest.mark.parametrize("key", ["(", ")|(", "a)|*b", "*a", "a**", "[z-a]"])
def test_what_is_no_pattern_names_the_key(key):
    with pytest.raises(ServiceError) as caught:
        compile_patterns("rank_pattern", [key])
    assert caught.value.field == f"rank_pattern[{key}]"
    assert caught.value.reason in (Reason.INVALID_ADAPTER, Reason.UNSUPPORTED_ADAPTER)


@pytest.mark.parametrize(
    "key",
    [
        "(a*)*b",
        "(.+)+x",
        "(.|.)" * 30,
        ".*" * 6 + "x",
        "(a|a)*",
        "a{1,99999}",
        "(?=a)b",
        "((.*)*)*",
        "[[a]]+",
        "(a?){20}",
        "a?" * 40,
        "x" * 300,
        "(.*.*)?.*x",
    ],
)
def test_patterns_that_could_hang_are_refused(key):
    with pytest.raises(ServiceError) as caught:
        compile_patterns("alpha_pattern", [key])
    assert caught.value.reason is Reason.UNSUPPORTED_ADAPTER


def test_how_many():
    assert len(compile_patterns("r", [f"layers.{i}.q_proj" for i in range(MAX_PATTERNS)])) == MAX_PATTERNS
    with pytest.raises(ServiceError):
        compile_patterns("r", [f"layers.{i}.q_proj" for i in range(MAX_PATTERNS + 1)])
    with pytest.raises(ServiceError):
        compile_patterns("r", [f"layers.{i}.*" for i in range(100)])


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet=r"a.*+?|()[]\^${}-x", max_size=24))
def test_what_is_accepted_is_quick(key):
    try:
        (pattern,) = compile_patterns("r", [key])
    except ServiceError:
        return
    started_s = time.process_time()
    pattern.match("a" * 40 + "!")
    pattern.match("a.x" * 13 + "!")
    # A pattern that explodes takes minutes; the bound on tries makes this milliseconds.
    assert time.process_time() - started_s < 2.0
