"""Prints results: tables for people, JSON for scripts. Knows no RPC."""

import json
import sys
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from client.wire import to_json

# Wide enough for any row: a pipe has no width, and a truncated name is no use to `grep`.
_PIPE_WIDTH = 400


def print_json(value: Any) -> None:
    """`value` (dataclasses allowed) as indented JSON."""
    print(json.dumps(to_json(value), indent=2, ensure_ascii=False))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """One line a row under `columns`; numbers to the right."""
    rows = [tuple(row) for row in rows]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for index, name in enumerate(columns):
        is_number = bool(rows) and all(isinstance(row[index], int | float) for row in rows)
        table.add_column(name, justify="right" if is_number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    out_console().print(table, markup=False)


def print_fields(fields: Iterable[tuple[str, object]]) -> None:
    """One `name  value` line each; empty values are left out."""
    shown = [(name, str(value)) for name, value in fields if value not in ("", None, ())]
    width = max(len(name) for name, _ in shown)
    for name, value in shown:
        print(f"{name:<{width}}  {value}")


def out_console() -> Console:
    """stdout, never wrapped when it is a pipe."""
    return Console(highlight=False, markup=False, width=None if sys.stdout.isatty() else _PIPE_WIDTH)


def size_text(num_bytes: int) -> str:
    """1536 -> '1.5 KiB'."""
    size = float(num_bytes)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def time_text(time: datetime | None) -> str:
    """Local time to the second; empty if unknown."""
    return time.astimezone().strftime("%Y-%m-%d %H:%M:%S") if time else ""
