"""One cold request through both real services is one trace, in a collector on loopback, and in both logs."""

import asyncio
import json
import os
from itertools import pairwise

import grpc
import pytest

from client import StoreClient
from demo.stack import ADAPTERS, MODEL
from protos.multilora.v1 import inference_pb2 as pb
from protos.multilora.v1 import inference_pb2_grpc as pb_grpc
from tests.e2e.processes import start_inference, start_store
from tests.otlp_receiver import OtlpReceiver

pytestmark = pytest.mark.timeout(180)

TRACE_ID, CALLER_SPAN_ID = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE_ID}-{CALLER_SPAN_ID}-01"
GENERATE = "multilora.v1.InferenceService/Generate"
RESOLVE, READ = (f"multilora.v1.AdapterStoreService/{name}" for name in ("ResolveVersion", "Read"))
STAGES = {"resolve", "fetch", "load", "queue", "prefill", "decode"}
# Clocks are read by two threads, one after the other.
CLOCK_NS = 5_000_000
SECRET = "forty-two parcels"


@pytest.fixture(scope="module")
def traced(tmp_path_factory):
    """A receiver and the address of an inference service that exports to it, and to whose store too."""
    work_dir = tmp_path_factory.mktemp("traced")
    with OtlpReceiver() as receiver, pytest.MonkeyPatch.context() as environment:
        environment.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        flags = ("--otlp-endpoint", receiver.endpoint, "--log-format", "json", "--log-level", "debug")
        with (
            start_store(work_dir / "store", *flags) as store,
            start_inference(MODEL, store.address, work_dir / "serve.log", *flags) as inference,
        ):
            asyncio.run(_push(store.address))
            yield receiver, inference.address, work_dir


async def _push(address: str) -> None:
    async with StoreClient(address) as store:
        await store.push(ADAPTERS / "reverse", "acme/reverse", alias="production")


def generate(address: str, adapter: str, *metadata: tuple[str, str]) -> None:
    with grpc.insecure_channel(address) as channel:
        request = pb.GenerateRequest(adapter=adapter, text=SECRET, sampling=pb.SamplingParams(max_tokens=4))
        list(pb_grpc.InferenceServiceStub(channel).Generate(request, metadata=metadata))


def test_a_cold_request_is_one_trace_from_the_client_through_both_services(traced):
    receiver, address, work_dir = traced
    generate(address, "acme/reverse", ("traceparent", TRACEPARENT))
    wanted = {GENERATE, RESOLVE, READ, *STAGES}
    spans = receiver.trace(TRACE_ID, lambda spans: {span.name for span in spans} >= wanted)
    by_name = {span.name: span for span in spans}
    assert set(by_name) >= wanted, sorted(by_name)
    root = by_name[GENERATE]
    assert root.parent_span_id == CALLER_SPAN_ID
    assert {by_name[name].parent_span_id for name in STAGES} == {root.span_id}
    assert by_name[RESOLVE].service == by_name[READ].service == "multilora-store"
    assert by_name[RESOLVE].parent_span_id == by_name["resolve"].span_id
    assert by_name[READ].parent_span_id == by_name["fetch"].span_id
    assert not [span for span in spans if span.error], "nothing went wrong"
    # The load is launched within the step that prefills, so those two may overlap.
    for stages in (("resolve", "fetch", "load"), ("fetch", "queue", "prefill", "decode")):
        for before, after in pairwise(stages):
            assert by_name[before].ended_ns <= by_name[after].began_ns + CLOCK_NS, (before, after)
    assert by_name["fetch"].attributes["multilora.source"] == "store"
    assert by_name["decode"].attributes["multilora.generated_tokens"] >= 1
    assert len({span.span_id for span in spans}) == len(spans)
    for log in ("serve.log", "store.log"):
        lines = [json.loads(line) for line in (work_dir / log).read_text().splitlines()]
        assert any(line.get("trace_id") == TRACE_ID for line in lines), log


def test_neither_spans_nor_logs_hold_a_prompt(traced):
    receiver, address, work_dir = traced
    generate(address, "", ("traceparent", TRACEPARENT.replace("4bf9", "5bf9")))
    trace_id = TRACE_ID.replace("4bf9", "5bf9")
    spans = receiver.trace(trace_id, lambda spans: GENERATE in {span.name for span in spans})
    assert {span.name for span in spans} == {GENERATE, "queue", "prefill", "decode"}, "no adapter, no store"
    assert SECRET not in repr(receiver.spans)
    for log in ("serve.log", "store.log"):
        assert SECRET not in (work_dir / log).read_text()


def test_what_its_caller_does_not_record_is_not_recorded_and_a_call_without_a_trace_begins_one(traced):
    receiver, address, _ = traced
    unsampled = f"00-{os.urandom(16).hex()}-{CALLER_SPAN_ID}-00"
    generate(address, "", ("traceparent", unsampled))
    known = {span.trace_id for span in receiver.spans}
    generate(address, "", ("traceparent", "nonsense"))
    marker = os.urandom(16).hex()
    generate(address, "", ("traceparent", f"00-{marker}-{CALLER_SPAN_ID}-01"))
    receiver.trace(marker, lambda spans: GENERATE in {span.name for span in spans})
    roots = [
        span
        for span in receiver.spans
        if span.name == GENERATE and not span.parent_span_id and span.trace_id not in known
    ]
    assert len(roots) == 1
    assert unsampled[3:35] not in {span.trace_id for span in receiver.spans}
