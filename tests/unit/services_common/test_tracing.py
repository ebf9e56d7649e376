"""Contexts from callers, and spans made of calls."""

import asyncio

import pytest

from services.common.errors import Code, Reason, ServiceError
from services.common.trace_context import (
    TraceContext,
    current,
    entered,
    from_metadata,
    parse,
    trace_metadata,
)
from services.common.tracing import Tracing

CONTEXT = TraceContext("a" * 32, "b" * 16, True)
METHOD = "/multilora.v1.InferenceService/Generate"


class Sink:
    def __init__(self):
        self.spans = []

    def put(self, span):
        self.spans.append(span)

    def close(self):
        self.spans.append("closed")


@pytest.mark.parametrize(
    "header",
    [
        "",
        "nonsense",
        f"00-{'a' * 32}-{'b' * 16}",
        f"00-{'0' * 32}-{'b' * 16}-01",
        f"00-{'a' * 32}-{'0' * 16}-01",
        f"00-{'A' * 32}-{'b' * 16}-01",
        f"00-{'a' * 32}-{'b' * 16}-01-more",
    ],
)
def test_what_is_no_traceparent_is_none(header):
    assert parse(header) is None


def test_a_context_reads_back_and_its_children_stay_in_the_trace():
    for is_sampled in (True, False):
        context = TraceContext("a" * 32, "b" * 16, is_sampled)
        assert parse(context.header) == context
    assert from_metadata([("other", "x"), ("traceparent", CONTEXT.header)]) == CONTEXT
    assert from_metadata([("other", b"x")]) is None
    for child in (CONTEXT.child(), CONTEXT.named_child("fetch k")):
        assert parse(child.header) == child
        assert (child.trace_id, child.is_sampled) == (CONTEXT.trace_id, True)
        assert child.span_id != CONTEXT.span_id
    assert CONTEXT.named_child("fetch k") == CONTEXT.named_child("fetch k") != CONTEXT.named_child("load k")


async def in_a_task(work):
    """What `work` returns in a task of its own, as a call's is."""

    async def run():
        return work()

    return await asyncio.create_task(run())


async def test_without_a_sink_the_callers_context_is_passed_on_as_it_is():
    def work():
        call = Tracing().begin(METHOD, [("traceparent", CONTEXT.header)])
        with Tracing().span("resolve"):
            passed_on = trace_metadata()
        call.end("OK")
        return passed_on

    assert await in_a_task(work) == (("traceparent", CONTEXT.header),)
    assert await in_a_task(lambda: Tracing().begin(METHOD, []) and trace_metadata()) == ()


async def test_a_call_and_what_it_does_are_spans_of_the_callers_trace():
    sink = Sink()
    tracing = Tracing(sink)
    error = ServiceError(Code.NOT_FOUND, Reason.ADAPTER_NOT_FOUND, "gone")

    def work():
        call = tracing.begin(METHOD, [("traceparent", CONTEXT.header)])
        with pytest.raises(ServiceError), tracing.span("resolve"):
            raise error
        assert call.end("NOT_FOUND") >= 0

    await in_a_task(work)
    resolve, call = sink.spans
    assert (call.name, call.parent_span_id, call.error) == (METHOD[1:], CONTEXT.span_id, "NOT_FOUND")
    assert call.is_server
    assert (resolve.name, resolve.parent_span_id, resolve.error) == (
        "resolve",
        call.context.span_id,
        "ADAPTER_NOT_FOUND",
    )
    assert {span.context.trace_id for span in sink.spans} == {CONTEXT.trace_id}
    assert current() is None, "a call's trace ends with its task"


async def test_callers_without_a_trace_begin_one_as_often_as_the_ratio_says_but_not_health_checks():
    sink = Sink()
    for ratio, method in ((1.0, METHOD), (0.0, METHOD), (1.0, "/grpc.health.v1.Health/Check")):
        tracing = Tracing(sink, ratio)
        await in_a_task(lambda tracing=tracing, method=method: tracing.begin(method, []).end("OK"))
    (span,) = sink.spans
    assert span.parent_span_id == ""


def test_nothing_is_made_of_a_trace_that_is_not_recorded():
    sink = Sink()
    with entered(TraceContext("a" * 32, "b" * 16, False)), Tracing(sink).span("resolve"):
        assert Tracing(sink).traced() is None
    assert sink.spans == []
