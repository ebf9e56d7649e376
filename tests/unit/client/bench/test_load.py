import pytest

from client.bench.load import Load, Loop, parse_range


def test_ranges():
    assert parse_range("32") == (32, 33)
    assert parse_range("8:512") == (8, 512)
    with pytest.raises(ValueError, match="is no range"):
        parse_range("a:b")


def test_size_is_the_loops_own():
    assert Load(num_requests=7).size == 7
    assert Load(loop=Loop.open, rate_per_s=2.5, duration_s=4).size == 10


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_requests", 0),
        ("concurrency", 0),
        ("rate_per_s", -1.0),
        ("cv", 0.0),
        ("skew", 0.0),
        ("prompt_tokens", (0, 4)),
        ("output_tokens", (5, 5)),
    ],
)
def test_nonsense_is_refused_by_name(field, value):
    with pytest.raises(ValueError, match=field):
        Load(**{field: value})


def test_an_open_loop_without_a_request_is_refused():
    with pytest.raises(ValueError, match="at least one request"):
        Load(loop=Loop.open, rate_per_s=0.1, duration_s=1.0)
