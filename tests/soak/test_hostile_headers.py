"""100,000 adapters whose headers lie: each is judged or refused by name, in bounded memory."""

import json
import struct
import tracemalloc

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.adapter_store.domain.version import WeightsSummary
from services.common.errors import Code, ServiceError
from tests.adapter_files import CONFIG, WEIGHTS, adapter_files
from tests.unit.adapter_store.conftest import judge

CASES = 100_000
REFUSALS = {Code.INVALID_ARGUMENT, Code.FAILED_PRECONDITION}
# One header of 4 MiB, the most that is parsed, as Python objects: nothing may take more than that.
MAX_PEAK_BYTES = 256 << 20

pytestmark = pytest.mark.soak

FINE = adapter_files()
(_HEADER_BYTES,) = struct.unpack("<Q", FINE[WEIGHTS][:8])
HEADER = json.loads(FINE[WEIGHTS][8 : 8 + _HEADER_BYTES])
DATA = FINE[WEIGHTS][8 + _HEADER_BYTES :]
NAMES = sorted(HEADER)

numbers = (
    st.sampled_from([0, 1, -1, 4, 8, 127, 128, 1 << 31, 1 << 48, 1 << 63, 1 << 64, 10**30]) | st.integers()
)
values = st.recursive(
    st.none() | st.booleans() | numbers | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
entries = st.fixed_dictionaries(
    {
        "dtype": st.sampled_from(["F32", "BF16", "F16", "I64", "F8_E4M3", "X", ""]) | values,
        "shape": st.lists(numbers, max_size=9) | values,
        "data_offsets": st.lists(numbers, min_size=2, max_size=2) | values,
    }
)
edits = st.tuples(st.sampled_from(NAMES), st.sampled_from(["dtype", "shape", "data_offsets"]), values)


def built(header: dict, claimed_bytes: int | None = None, data: bytes = DATA) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text) if claimed_bytes is None else claimed_bytes) + text + data


@st.composite
def lying_files(draw) -> bytes:
    """A fine file of weights with something wrong, or nothing but lies."""
    kind = draw(st.integers(0, 5))
    header = json.loads(json.dumps(HEADER))
    if kind == 0:
        for name, field, value in draw(st.lists(edits, min_size=1, max_size=3)):
            header[name][field] = value
        return built(header)
    if kind == 1:
        header[draw(st.text(max_size=40) | st.sampled_from(NAMES))] = draw(entries | values)
        return built(header)
    if kind == 2:
        return built(header, claimed_bytes=draw(st.integers(0, (1 << 64) - 1)))
    if kind == 3:
        data = bytearray(FINE[WEIGHTS])
        for at, byte in draw(
            st.lists(st.tuples(st.integers(0, len(data) - 1), st.integers(0, 255)), max_size=6)
        ):
            data[at] = byte
        return bytes(data)
    if kind == 4:
        return FINE[WEIGHTS][: draw(st.integers(0, len(FINE[WEIGHTS])))]
    return built(
        draw(st.dictionaries(st.text(max_size=20), entries, max_size=4)), data=draw(st.binary(max_size=64))
    )


def judgement(weights: bytes) -> WeightsSummary | ServiceError:
    try:
        return judge({**FINE, WEIGHTS: weights})
    except ServiceError as error:
        return error


def test_every_lying_header_is_refused_by_name(rounds):
    judged = {"refused": 0, "taken": 0}

    @settings(
        max_examples=rounds(CASES, least=2000),
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(lying_files())
    def check(weights: bytes) -> None:
        found = judgement(weights)
        if isinstance(found, WeightsSummary):
            judged["taken"] += 1
        else:
            assert found.code in REFUSALS
            assert found.message
            judged["refused"] += 1

    check()
    assert judged["refused"] > judged["taken"], judged


@pytest.mark.parametrize(
    "weights",
    [
        built({"x" * 100: {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}} | HEADER),
        # A few bytes that unfold: deep nesting, and a header of nothing but brackets.
        struct.pack("<Q", 4 << 20) + b"[" * (4 << 20),
        struct.pack("<Q", 4 << 20) + b'{"a":' * ((4 << 20) // 5) + b"1",
        struct.pack("<Q", 4 << 20) + b'{"__metadata__":{' + b'"a":"b",' * ((4 << 20) // 8),
        built(
            {f"t{i}": {"dtype": "F32", "shape": [1 << 47], "data_offsets": [0, 1 << 47]} for i in range(1000)}
        ),
        built(
            {f"t{i}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for i in range(30_000)}, data=b""
        ),
    ],
    ids=["long name", "brackets", "nested", "metadata", "huge shapes", "many empty tensors"],
)
@pytest.mark.parametrize("path", [WEIGHTS, CONFIG])
def test_a_header_bomb_takes_bounded_memory(weights, path):
    files = {**FINE, path: weights}
    tracemalloc.start()
    try:
        with pytest.raises(ServiceError) as caught:
            judge(files)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert caught.value.code in REFUSALS
    assert peak_bytes < MAX_PEAK_BYTES, f"{peak_bytes >> 20} MiB"
