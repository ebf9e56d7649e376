import pytest

from client.names import short_name


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
