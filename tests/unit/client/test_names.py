import pytest

from client.names import routing_metadata, short_name


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("tenants/acme/adapters/support", "acme/support"),
        ("tenants/acme/adapters/support/versions/3", "acme/support@3"),
        ("tenants/acme/adapters/support/aliases/staging", "acme/support@staging"),
        ("acme/support@3", "acme/support@3"),
        ("", ""),
    ],
)
def test_short_name(name, short):
    assert short_name(name) == short


@pytest.mark.parametrize(
    "name",
    [
        "acme/support",
        "acme/support@3",
        "acme/support@staging",
        "tenants/acme/adapters/support",
        "tenants/acme/adapters/support/versions/3",
        "tenants/acme/adapters/support/aliases/staging",
    ],
)
def test_every_form_of_an_adapter_s_name_goes_the_same_way(name):
    assert routing_metadata(name) == (("x-multilora-adapter", "acme/support"),)


@pytest.mark.parametrize(
    "name", ["", "support", "a/b/c", "Acme/support", "acme/sup\nport", "acme/süß", "a/" + "b" * 64]
)
def test_what_names_no_adapter_has_no_way_of_its_own(name):
    assert routing_metadata(name) == ()
