"""What is written, and when."""

import json
from dataclasses import dataclass
from pathlib import Path

from benchmarks.report import Report, markdown_table


@dataclass
class Row:
    group: str
    step_ms: float
    over_none: float | None
    busiest: tuple[str, ...] = ()


def test_every_put_leaves_whole_files(tmp_path: Path):
    report = Report(tmp_path / "figures" / "gpu", {"device": "a GPU", "versions": {"torch": "2"}}, "Title")
    report.put("engine", [Row("q|k|v", 4.25, None, ("a kernel",))])
    report.put("engine", [Row("q|k|v", 4.25, None, ("a kernel",)), Row("o", 12345.6, 0.001)])
    report.failures.append("it went wrong")
    report.write()
    found = json.loads((tmp_path / "figures" / "gpu.json").read_text())
    assert [row["step_ms"] for row in found["tables"]["engine"]] == [4.25, 12345.6]
    assert found["tables"]["engine"][0]["busiest"] == ["a kernel"]
    assert found["failures"] == ["it went wrong"]
    assert (tmp_path / "figures" / "gpu.md").read_text() == (
        "# Title\n\n- device: a GPU\n- versions: torch 2\n\n## Failures\n\n- it went wrong\n\n## engine\n\n"
        "| group | step ms | over none |\n|---|---|---|\n| q,k,v | 4.25 |  |\n| o | 12,346 | 1.0e-03 |\n"
    )
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == ["gpu.json", "gpu.md"]


def test_long_tables_can_be_left_out_and_empty_ones_say_so(tmp_path: Path):
    report = Report(tmp_path / "gpu", {}, "Title")
    report.put("kernel", [Row("o", 1.0, None)] * 3)
    assert "(3 rows: see the file)" in report.markdown(2)
    assert "(3 rows" not in report.markdown(3)
    assert markdown_table([]) == ["(nothing was measured)"]
