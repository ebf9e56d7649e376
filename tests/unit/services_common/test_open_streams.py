import pytest

from services.common.caller import EVERY_TENANT, Caller, Role
from services.common.errors import Code, Reason, ServiceError
from services.common.open_streams import OpenStreams

ACME = Caller("a", "acme", Role.READER)


def test_a_tenant_has_so_many_open_and_others_are_not_held_up():
    streams = OpenStreams()
    with streams.place("Read", ACME, 2), streams.place("Read", Caller("b", "acme", Role.ADMIN), 2):
        with pytest.raises(ServiceError) as caught, streams.place("Read", ACME, 2):
            raise AssertionError("a third was let in")
        assert (caught.value.code, caught.value.reason) == (Code.RESOURCE_EXHAUSTED, Reason.QUOTA_EXCEEDED)
        assert caught.value.retry_after_s
        with streams.place("Read", Caller("c", "beta", Role.READER), 2), streams.place("Watch", ACME, 2):
            assert repr(streams) == "OpenStreams(4 open)"
    with streams.place("Read", ACME, 2):
        assert repr(streams) == "OpenStreams(1 open)"


@pytest.mark.parametrize(("caller", "most"), [(Caller("o", EVERY_TENANT, Role.READER), 1), (ACME, 0)])
def test_operators_and_what_has_no_bound_are_not_counted(caller, most):
    streams = OpenStreams()
    with streams.place("Read", caller, most), streams.place("Read", caller, most):
        assert repr(streams) == "OpenStreams(0 open)"


def test_who_failed_is_counted_no_more():
    streams = OpenStreams()
    with pytest.raises(ZeroDivisionError), streams.place("Read", ACME, 1):
        raise ZeroDivisionError
    with streams.place("Read", ACME, 1):
        pass
