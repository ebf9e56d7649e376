import argparse
from dataclasses import dataclass
from pathlib import Path

import pytest

from services.common.settings import existing_dir, parse, parse_address, parse_bytes, setting


@dataclass(frozen=True)
class Example:
    model: Path = setting(help="where the model is, 100% of it")
    pool_bytes: int = setting(1 << 20, help="size of the pool")
    device: str = setting("cpu", help="where to run", choices=("cpu", "cuda"))
    port: int | None = setting(None, help="a port")
    fast: bool = setting(False, help="skip checks")

    def __post_init__(self) -> None:
        if self.pool_bytes < 8:
            raise ValueError("--pool-bytes: must be at least 8")


def read(*argv, environ=None):
    return parse(Example, argv, prog="example", description="d", environ=environ or {})


def usage_error(capsys, *argv, environ=None):
    with pytest.raises(SystemExit) as caught:
        read(*argv, environ=environ)
    assert caught.value.code == 2
    return capsys.readouterr().err


def test_defaults_environment_and_flags_in_that_order():
    assert read("--model", "/m") == Example(Path("/m"))
    environ = {
        "MULTILORA_MODEL": "/e",
        "MULTILORA_POOL_BYTES": "2MiB",
        "MULTILORA_FAST": "Yes",
        "MULTILORA_PORT": "7",
    }
    from_environ = read(environ=environ)
    assert from_environ == Example(Path("/e"), 2 << 20, "cpu", 7, True)
    assert read("--model", "/f", "--no-fast", "--port", "8", environ=environ) == Example(
        Path("/f"), 2 << 20, "cpu", 8, False
    )


@pytest.mark.parametrize(
    ("argv", "environ", "says"),
    [
        ((), {}, "--model"),
        (("--model", "m", "--pool-bytes", "lots"), {}, "is no size"),
        (("--model", "m", "--pool-bytes", "-1"), {}, "is no size"),
        (("--model", "m", "--pool-bytes", "7"), {}, "at least 8"),
        (("--model", "m", "--device", "tpu"), {}, "cuda"),
        (("--model", "m", "--port", "x"), {}, "--port"),
        (("--model", "m", "--nope"), {}, "--nope"),
        (("--model", "m"), {"MULTILORA_FAST": "perhaps"}, "MULTILORA_FAST"),
        (("--model", "m"), {"MULTILORA_POOL_BYTES": "many"}, "is no size"),
        (("--model", "m"), {"MULTILORA_PORT": "x"}, "--port"),
        (("--model", "m"), {"MULTILORA_DEVICE": "tpu"}, "cuda"),
    ],
)
def test_usage_errors(capsys, argv, environ, says):
    assert says in usage_error(capsys, *argv, environ=environ)


def test_an_error_comes_first_and_says_where_the_help_is(capsys):
    text = usage_error(capsys, "--model", "m", "--pool-bytes", "7")
    assert text == "example: error: --pool-bytes: must be at least 8\nsee: example --help\n"


def test_help_names_default_and_variable(capsys):
    with pytest.raises(SystemExit) as caught:
        read("--help")
    assert caught.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "size of the pool (default: 1048576; MULTILORA_POOL_BYTES)" in text
    assert "100% of it (required; MULTILORA_MODEL)" in text


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("17", 17), ("17B", 17), ("2KiB", 2048), ("1.5 MiB", 3 << 19), (" 3GiB ", 3 << 30)],
)
def test_sizes(text, size):
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["", "MiB", "-1", "1TB", "nan", "inf", "1e400"])
def test_bad_sizes(text):
    with pytest.raises(argparse.ArgumentTypeError):
        parse_bytes(text)


@pytest.mark.parametrize(
    ("text", "address"),
    [("127.0.0.1:0", ("127.0.0.1", 0)), ("[::1]:7001", ("::1", 7001)), ("store:65535", ("store", 65535))],
)
def test_addresses(text, address):
    assert parse_address(text) == address


@pytest.mark.parametrize("text", ["", "7001", ":7001", "host:", "host:x", "host:65536", "host:-1"])
def test_bad_addresses(text):
    with pytest.raises(ValueError, match="HOST:PORT"):
        parse_address(text)


def test_existing_dir(tmp_path):
    assert existing_dir(tmp_path, "model") == tmp_path
    with pytest.raises(ValueError, match="--model: "):
        existing_dir(tmp_path / "none", "model")
