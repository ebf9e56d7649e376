"""What a run found, as JSON and as Markdown tables, written again after every cell.

Must not know what the rows mean: a table's columns are the fields of its rows.
"""

import json
import math
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

# For reading a machine's profile, too long for a table.
JSON_ONLY = frozenset({"busiest"})


@dataclass(slots=True)
class Report:
    """`stem`.json and `stem`.md; `notes` say what was skipped and why, `failures` what went wrong."""

    stem: Path
    machine: dict[str, Any]
    title: str
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def put(self, table: str, rows: Sequence[Any]) -> None:
        """Replaces `table` by `rows`, dataclasses of one kind, and writes both files."""
        self.tables[table] = [asdict(row) for row in rows]
        self.write()

    def write(self) -> None:
        """Writes both files, each whole or not at all."""
        self.stem.parent.mkdir(parents=True, exist_ok=True)
        found = {
            "title": self.title,
            "machine": self.machine,
            "failures": self.failures,
            "notes": self.notes,
            "tables": self.tables,
        }
        _replace(self.stem.with_name(f"{self.stem.name}.json"), json.dumps(found, indent=1) + "\n")
        _replace(self.stem.with_name(f"{self.stem.name}.md"), self.markdown())

    def markdown(self, most_rows: int | None = None) -> str:
        """All of it for readers, but for tables of more than `most_rows`."""
        lines = [f"# {self.title}", ""]
        lines += [f"- {name}: {_flat(value)}" for name, value in self.machine.items()]
        for heading, texts in (("Failures", self.failures), ("Notes", self.notes)):
            if texts:
                lines += ["", f"## {heading}", "", *(f"- {text}" for text in texts)]
        for name, rows in self.tables.items():
            is_long = most_rows is not None and len(rows) > most_rows
            body = [f"({len(rows)} rows: see the file)"] if is_long else markdown_table(rows)
            lines += ["", f"## {name}", "", *body]
        return "\n".join(lines) + "\n"


def markdown_table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """Lines of a Markdown table, a column a key."""
    if not rows:
        return ["(nothing was measured)"]
    names = [name for name in rows[0] if name not in JSON_ONLY]
    lines = [f"| {' | '.join(name.replace('_', ' ') for name in names)} |", "|---" * len(names) + "|"]
    return lines + [f"| {' | '.join(_cell(row[name]) for name in names)} |" for row in rows]


def _cell(value: Any) -> str:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float):
        if value and abs(value) < 0.01:
            return f"{value:.1e}"
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.2f}"
    return str(value).replace("|", ",")


def _flat(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {inner}" for name, inner in value.items())
    return f"{value:.4g}" if isinstance(value, float) else f"{value}"


def _replace(path: Path, text: str) -> None:
    unfinished = path.with_name(f".{path.name}")
    unfinished.write_text(text)
    os.replace(unfinished, path)
