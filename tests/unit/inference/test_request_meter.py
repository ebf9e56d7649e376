"""What is measured of a request, event by event."""

from services.common.errors import Code, Reason, ServiceError
from services.inference.messages import Failed, Finished, Started, Tokens
from services.inference.request import FinishReason, Request, SamplingParams
from services.inference.request_meter import RequestMeter


class Sink:
    def __init__(self):
        self.events = []

    def put(self, event):
        self.events.append(event)


class Clock:
    now_s = 10.0

    def __call__(self):
        return self.now_s


def request(request_id="r1", arrival_s=10.0):
    return Request(request_id, (1, 2, 3), None, SamplingParams(), arrival_s, 0, None, ())


def test_a_request_is_measured_from_its_arrival_to_its_end():
    clock, sink = Clock(), Sink()
    meter = RequestMeter(10, clock)
    metered = meter.metered(request(), "acme", sink)
    events = [
        (10.5, Started("r1", 0, 0.25, 0.125)),
        (11.0, Tokens("r1", (7,))),
        (11.5, Tokens("r1", (8, 9))),
        (12.5, Finished("r1", FinishReason.LENGTH)),
    ]
    for clock.now_s, event in events:
        assert metered.put(event) is None
    assert sink.events == [event for _, event in events]
    assert (meter.queue_s.total, meter.adapter_wait_s.total) == (0.25, 0.125)
    assert (meter.first_token_s.total, meter.total_s.total) == (1.0, 2.5)
    assert (meter.between_tokens_s.num_observed, meter.between_tokens_s.total) == (2, 0.5)
    assert meter.tokens == {("acme", "prompt"): 3, ("acme", "generated"): 3}


def test_a_request_that_fails_before_its_start_measures_nothing():
    meter = RequestMeter(10, Clock())
    error = ServiceError(Code.NOT_FOUND, Reason.ADAPTER_NOT_FOUND, "gone")
    meter.metered(request(), "acme", Sink()).put(Failed("r1", error))
    assert meter.total_s.num_observed == meter.first_token_s.num_observed == 0
    assert meter.tokens == {("acme", "prompt"): 0, ("acme", "generated"): 0}


def test_tenants_beyond_the_most_are_counted_together():
    meter = RequestMeter(2, Clock())
    for tenant in ("a", "b", "c", "d", None):
        meter.metered(request(), tenant, Sink()).put(Tokens("r1", (5,)))
    generated = {tenant: count for (tenant, kind), count in meter.tokens.items() if kind == "generated"}
    assert generated == {"a": 1, "b": 1, "_other": 2, "_none": 1}
