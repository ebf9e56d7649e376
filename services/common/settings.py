"""Reads a service's settings from flags, then MULTILORA_* variables, then defaults.

The only place that reads the environment. A settings class is a frozen dataclass whose fields
carry `metadata={"help": ...}`; `parse` makes the flags, their help and their checks from it.
"""

import argparse
import configparser
import dataclasses
import os
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Any, NoReturn, TypeVar

S = TypeVar("S")


class _Parser(argparse.ArgumentParser):
    """Says what is wrong and where the help is: the usage of some dozens of flags would hide it."""

    def error(self, message: str) -> NoReturn:
        """Ends the program with 2."""
        self.exit(2, f"{self.prog}: error: {message}\nsee: {self.prog} --help\n")


def setting(
    default: Any = dataclasses.MISSING, *, help: str, choices: Sequence[str] | None = None, variable: str = ""
) -> Any:
    """A settings field with its help line; without `default` the flag is required.

    `variable` is for what the rest of the world has another name for than MULTILORA_*.
    """
    metadata = {"help": help, "choices": choices, "variable": variable}
    if default is dataclasses.MISSING:
        return dataclasses.field(metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


def parse(
    settings: type[S],
    argv: Sequence[str],
    *,
    prog: str,
    description: str,
    environ: Mapping[str, str] | None = None,
) -> S:
    """`settings` filled from `argv`, then the environment. Exits with what is wrong on bad input.

    A field `pool_bytes` is `--pool-bytes` and MULTILORA_POOL_BYTES; sizes take KiB, MiB, GiB.
    The class's __post_init__ may raise ValueError: its text is what is wrong.
    """
    environ = os.environ if environ is None else environ
    parser = _Parser(
        prog=prog,
        description=description,
        epilog="A flag goes before its MULTILORA_ variable. Sizes are bytes, or take a unit: 512MiB, 2GiB.",
    )
    hints = typing.get_type_hints(settings)
    for field in dataclasses.fields(settings):  # type: ignore[arg-type]
        _add_flag(parser, field, hints[field.name], environ)
    values = vars(parser.parse_args(list(argv)))
    try:
        return settings(**values)
    except ValueError as error:
        parser.error(str(error))


def _add_flag(
    parser: argparse.ArgumentParser,
    field: "dataclasses.Field[Any]",
    hint: Any,
    environ: Mapping[str, str],
) -> None:
    flag = "--" + field.name.replace("_", "-")
    variable = field.metadata["variable"] or "MULTILORA_" + field.name.upper()
    default = field.default
    required = default is dataclasses.MISSING and variable not in environ
    help_line = f"{field.metadata['help']} ({_shown_default(default)}{variable})".replace("%", "%%")
    kind = _plain_type(hint)
    value: Any = None if default is dataclasses.MISSING else default
    choices = field.metadata["choices"]
    if variable in environ:
        value = environ[variable]
        # argparse checks the choices of flags, not of defaults.
        if choices and value not in choices:
            parser.error(f"{variable}: {value!r} is not one of {', '.join(choices)}")
    if kind is bool:
        if isinstance(value, str):
            value = _parse_bool(parser, variable, value)
        parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=value, help=help_line)
        return
    convert = parse_bytes if field.name.endswith("_bytes") else kind
    parser.add_argument(
        flag,
        type=convert,
        default=value,
        required=required,
        choices=choices,
        help=help_line,
        metavar="{" + ",".join(filter(None, choices)) + "}" if choices else field.name.upper(),
    )


def _shown_default(default: Any) -> str:
    """What the help says before the variable; an empty default is told in the field's own words."""
    if default is dataclasses.MISSING:
        return "required; "
    return "" if default is None or default == "" else f"default: {default}; "


def _parse_bool(parser: argparse.ArgumentParser, variable: str, text: str) -> bool:
    known = {
        "1": True,
        "true": True,
        "yes": True,
        "on": True,
        "0": False,
        "false": False,
        "no": False,
        "off": False,
    }
    if text.lower() not in known:
        parser.error(f"{variable}: {text!r} is neither true nor false: give 1 or 0")
    return known[text.lower()]


def _plain_type(hint: Any) -> Any:
    if isinstance(hint, UnionType):
        (hint,) = (member for member in hint.__args__ if member is not type(None))
    return hint


def parse_bytes(text: str) -> int:
    """A size such as `1073741824`, `512MiB` or `2GiB`, in bytes. Raises ArgumentTypeError."""
    units = {"KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "B": 1}
    number, unit = text.strip(), 1
    for suffix, factor in units.items():
        if number.endswith(suffix):
            number, unit = number.removesuffix(suffix).strip(), factor
            break
    try:
        value = int(float(number) * unit)
    except (ValueError, OverflowError):
        value = -1
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no size: give bytes, or a number with KiB, MiB or GiB")
    return value


def parse_address(text: str) -> tuple[str, int]:
    """`HOST:PORT` or `[v6]:PORT`; port 0 asks for any free port. Raises ValueError."""
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"{text!r} is no address: give HOST:PORT, for example 127.0.0.1:7001")
    return host.strip("[]"), int(port)


def existing_dir(path: Path, field: str) -> Path:
    """`path` if it is a directory. Raises ValueError naming the flag."""
    if not path.is_dir():
        raise ValueError(f"--{field}: {path} is not a directory")
    return path


@dataclasses.dataclass(frozen=True, slots=True)
class S3Credentials:
    """Who we are to object storage. Its repr tells no secret."""

    access_key: str
    secret_key: str = dataclasses.field(repr=False)
    session_token: str = dataclasses.field(default="", repr=False)


def s3_credentials(file: Path | None, flag: str, environ: Mapping[str, str] | None = None) -> S3Credentials:
    """Credentials from `file`, laid out as AWS's own (`[default]`, aws_access_key_id = ...), else variables.

    Those are AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN, or MINIO_ACCESS_KEY and
    MINIO_SECRET_KEY. Raises OSError or ValueError saying what is missing; `flag` gave `file`.
    """
    if file is not None:
        parser = configparser.ConfigParser(interpolation=None)
        try:
            parser.read_string(file.read_text())
            found: Mapping[str, str] = parser["default"]
            return S3Credentials(
                found["aws_access_key_id"],
                found["aws_secret_access_key"],
                found.get("aws_session_token", ""),
            )
        except (configparser.Error, KeyError) as error:
            # Without the parser's words, which quote the line.
            raise ValueError(
                f"{flag}: {file} has no [default] with aws_access_key_id and aws_secret_access_key"
            ) from error
    environ = os.environ if environ is None else environ
    for access, secret in (
        ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
        ("MINIO_ACCESS_KEY", "MINIO_SECRET_KEY"),
    ):
        if environ.get(access) and environ.get(secret):
            token = environ.get("AWS_SESSION_TOKEN", "") if access.startswith("AWS") else ""
            return S3Credentials(environ[access], environ[secret], token)
    raise ValueError(
        f"object storage needs credentials: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give {flag}"
    )
