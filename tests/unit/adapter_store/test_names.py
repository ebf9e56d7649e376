import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.adapter_store.domain.names import (
    AdapterName,
    Reference,
    parse_adapter,
    parse_alias,
    parse_reference,
    parse_tenant,
    parse_version,
)
from services.common.errors import Reason, ServiceError

NAME = AdapterName("acme", "support-v1.2")


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("acme/support-v1.2", Reference(NAME)),
        ("acme/support-v1.2@3", Reference(NAME, version=3)),
        ("acme/support-v1.2@staging", Reference(NAME, alias="staging")),
        ("acme/support-v1.2@latest", Reference(NAME, alias="latest")),
        ("acme/support-v1.2@3b", Reference(NAME, alias="3b")),
        ("tenants/acme/adapters/support-v1.2", Reference(NAME)),
        ("tenants/acme/adapters/support-v1.2/versions/12", Reference(NAME, version=12)),
        ("tenants/acme/adapters/support-v1.2/aliases/staging", Reference(NAME, alias="staging")),
    ],
)
def test_every_form_of_a_name(text, reference):
    assert parse_reference(text, "name") == reference


@pytest.mark.parametrize(
    "text",
    [
        "",
        "acme",
        "acme/",
        "/support",
        "acme/support@",
        "acme/support@0",
        "acme/support@03",
        "acme/support@-1",
        "acme/support@1@2",
        "a/b/c",
        "Acme/support",
        "acme/sup port",
        ".acme/support",
        "acme/-support",
        "tenants/acme",
        "tenants/acme/adapters",
        "tenants/acme/adapters/",
        "tenants/acme/adapters/x/versions/",
        "tenants/acme/adapters/x/versions/latest",
        "tenants/acme/adapters/x/aliases/7",
        "acme/support\n",
        "tenants/acme/adapters/x/files/1",
        "acme/" + "s" * 64,
        "acme/support@" + "9" * 19,
        "acme/support@٣",
        "../../etc",
        "acme/\x00",
        "acme/\ud800",
    ],
)
def test_anything_else_is_refused_naming_the_field(text):
    with pytest.raises(ServiceError) as caught:
        parse_reference(text, "parent")
    assert caught.value.reason is Reason.INVALID_FIELD
    assert caught.value.field == "parent"
    assert caught.value.message.isprintable()


@given(st.text(max_size=80))
def test_no_text_raises_anything_but_a_service_error(text):
    with contextlib.suppress(ServiceError):
        reference = parse_reference(text, "name")
        assert parse_reference(str(reference.adapter), "name").adapter == reference.adapter


def test_names_of_one_kind():
    assert parse_adapter("acme/x", "f") == AdapterName("acme", "x")
    assert parse_version("acme/x@2", "f") == (AdapterName("acme", "x"), 2)
    assert parse_alias("acme/x@staging", "f") == (AdapterName("acme", "x"), "staging")
    assert parse_tenant("tenants/acme", "f") == "acme"
    for parse, text in [
        (parse_adapter, "acme/x@2"),
        (parse_version, "acme/x@staging"),
        (parse_version, "acme/x"),
        (parse_alias, "acme/x@2"),
        (parse_alias, "acme/x@latest"),
        (parse_tenant, "acme"),
        (parse_tenant, "tenants/"),
        (parse_tenant, "tenants/A"),
    ]:
        with pytest.raises(ServiceError) as caught:
            parse(text, "f")
        assert caught.value.field == "f"


def test_resource_names():
    name = AdapterName("acme", "x")
    assert str(name) == "tenants/acme/adapters/x"
    assert name.version(3) == "tenants/acme/adapters/x/versions/3"
    assert name.alias("staging") == "tenants/acme/adapters/x/aliases/staging"
