"""check_adapter_name against the grammar of names in adapter_store.proto."""

import pytest

from services.common.errors import ServiceError
from services.inference.adapter_name import check_adapter_name, full_version_name


@pytest.mark.parametrize(
    "name",
    [
        "acme/support",
        "acme/support@3",
        "acme/support@staging",
        "acme/support@latest",
        "acme/support@3rd",
        "0/a.b_c-d",
        "a/" + 63 * "b",
        "tenants/acme/adapters/support",
        "tenants/acme/adapters/support/versions/12",
        "tenants/acme/adapters/support/aliases/staging",
    ],
)
def test_names(name):
    check_adapter_name(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "acme",
        "acme/",
        "/support",
        "Acme/support",
        "acme/sup port",
        "acme/support@",
        "acme/support@0",
        "acme/support@03",
        "acme/support@-1",
        "acme/support@a@b",
        "acme/support\n",
        "../support",
        "a/" + 64 * "b",
        "tenants/acme/adapters/support/versions/staging",
        "tenants/acme/adapters/support/aliases/3",
        "tenants/acme/adapters/support@3",
        "x" * 100_000,
    ],
)
def test_no_names(name):
    with pytest.raises(ServiceError, match="adapter: ") as raised:
        check_adapter_name(name)
    assert raised.value.field == "adapter"
    assert len(raised.value.message) < 500


@pytest.mark.parametrize(
    ("name", "full"),
    [
        ("acme/support@3", "tenants/acme/adapters/support/versions/3"),
        ("tenants/acme/adapters/support/versions/3", "tenants/acme/adapters/support/versions/3"),
        ("acme/support@staging", "acme/support@staging"),
        ("acme/support@3rd", "acme/support@3rd"),
        ("acme/support", "acme/support"),
    ],
)
def test_full_version_names(name, full):
    assert full_version_name(name) == full
