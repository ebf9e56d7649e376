"""Queued requests and tokens a minute of tenants, held to their quotas."""

import pytest

from services.common.errors import ServiceError
from services.inference.tenant_traffic import TenantQuotas, TenantTraffic


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def traffic(clock):
    return TenantTraffic(clock)


def refused(traffic, quotas, name="acme"):
    with pytest.raises(ServiceError) as caught:
        traffic.admit(name, quotas, 1)
    traffic.check_integrity()
    error = caught.value
    assert (error.code, error.reason) == ("RESOURCE_EXHAUSTED", "QUOTA_EXCEEDED")
    return error.metadata["quota"], error.retry_after_s


def test_queued_requests_count_until_they_start_or_end(traffic):
    quotas = TenantQuotas(max_queued_requests=2)
    first, second = traffic.admit("acme", quotas, 5), traffic.admit("acme", quotas, 5)
    assert refused(traffic, quotas)[0] == "max_queued_requests"
    traffic.admit("beta", quotas, 5).end()
    first.start()
    third = traffic.admit("acme", quotas, 5)
    second.end()
    second.end()
    fourth = traffic.admit("acme", quotas, 5)
    for ticket in (first, third, fourth):
        ticket.end()
    traffic.check_idle()


def test_tokens_a_minute_are_a_bucket_that_fills_evenly(traffic, clock):
    quotas = TenantQuotas(max_tokens_per_minute=60)
    ticket = traffic.admit("acme", quotas, 50)
    again = traffic.admit("acme", quotas, 10)
    quota, retry_s = refused(traffic, quotas)
    assert (quota, retry_s) == ("max_tokens_per_minute", 1.0)
    # A running stream goes on; those after it wait for what it took.
    ticket.spend(9)
    assert refused(traffic, quotas)[1] == 10.0
    clock.now_s = 9.0
    assert refused(traffic, quotas)[1] == 1.0
    clock.now_s = 10.0
    traffic.admit("acme", quotas, 1).end()
    for each in (ticket, again):
        each.end()
    traffic.check_idle()


def test_the_bucket_holds_no_more_than_a_minutes_worth(traffic, clock):
    quotas = TenantQuotas(max_tokens_per_minute=60)
    traffic.admit("acme", quotas, 1).end()
    clock.now_s = 3600.0
    traffic.admit("acme", quotas, 60).end()
    assert refused(traffic, quotas)[0] == "max_tokens_per_minute"


def test_a_new_quota_holds_from_the_next_request_on(traffic):
    traffic.admit("acme", TenantQuotas(max_tokens_per_minute=10), 10).end()
    traffic.admit("acme", TenantQuotas(max_tokens_per_minute=20), 20).end()
    assert refused(traffic, TenantQuotas(max_tokens_per_minute=20))[0] == "max_tokens_per_minute"
    traffic.admit("acme", TenantQuotas(), 1 << 20).end()
    traffic.check_idle()


def test_no_quota_is_no_limit_and_leaves_nothing(traffic, clock):
    tickets = [traffic.admit("acme", TenantQuotas(), 1000) for _ in range(100)]
    for ticket in tickets:
        ticket.end()
    for number in range(1000):
        traffic.admit(f"t{number}", TenantQuotas(max_tokens_per_minute=60), 1).end()
        clock.now_s += 1.0
        traffic.check_integrity()
    assert len(traffic._tenants) <= 128
