"""What of the audit log is shown: by tenant, by resource, by time, a page at a time."""

from datetime import UTC, datetime, timedelta

import pytest

from services.adapter_store.domain.audit_filter import AuditFilter
from services.common.errors import Reason, ServiceError

START = datetime(2030, 1, 1, tzinfo=UTC)
RESOURCES = ["tenants/acme/adapters/a", "tenants/acme/adapters/a/versions/1", "tenants/acme/adapters/A", "x%"]


@pytest.fixture
def log(store):
    """A line for each of RESOURCES, ten times, a second apart."""
    for second in range(10):
        with store._database.write() as uow:
            for resource in RESOURCES:
                uow.audit.add("acme", resource, str(second))
            uow.audit.flush(START + timedelta(seconds=second))
            uow.commit()
    return store.audit_log


def shown(log, **wanted):
    found, token = [], ""
    while True:
        page = log.list("acme", 7, token, AuditFilter(**wanted))
        found += [(entry.resource, int(entry.detail)) for entry in page.rows if entry.detail.isdigit()]
        token = page.next_page_token
        if not token:
            return found


def test_a_prefix_is_of_the_whole_name_as_it_is_spelled(log):
    assert {resource for resource, _ in shown(log, resource_prefix="tenants/acme/adapters/a")} == {
        "tenants/acme/adapters/a",
        "tenants/acme/adapters/a/versions/1",
    }
    assert len(shown(log, resource_prefix="tenants/acme/adapters/a/")) == 10
    assert {resource for resource, _ in shown(log, resource_prefix="x%")} == {"x%"}
    assert shown(log, resource_prefix="adapters/a") == []


def test_a_time_range_has_its_start_and_not_its_end(log):
    start, end = START + timedelta(seconds=3), START + timedelta(seconds=6)
    assert [second for _, second in shown(log, start=start, end=end, resource_prefix="x")] == [5, 4, 3]
    assert [second for _, second in shown(log, end=end, resource_prefix="x")] == [5, 4, 3, 2, 1, 0]
    assert [second for _, second in shown(log, start=start, resource_prefix="x")] == [9, 8, 7, 6, 5, 4, 3]


def test_a_page_token_is_good_for_its_own_filter_alone(log):
    token = log.list("acme", 7, "", AuditFilter("x")).next_page_token
    with pytest.raises(ServiceError) as caught:
        log.list("acme", 7, token)
    assert caught.value.field == "page_token"


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        (AuditFilter("x" * 513), "resource_prefix"),
        (AuditFilter("a\0"), "resource_prefix"),
        (AuditFilter(start=START, end=START), "end_time"),
    ],
)
def test_a_filter_that_makes_no_sense_is_refused_by_field(store, wanted, field):
    with pytest.raises(ServiceError) as caught:
        store.audit_log.list("acme", 0, "", wanted)
    assert (caught.value.reason, caught.value.field) == (Reason.INVALID_FIELD, field)
