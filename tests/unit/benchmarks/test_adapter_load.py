"""The program as a whole, on a tiny shape."""

import json
import sys

import pytest

from benchmarks.adapter_load import main


def test_every_stage_of_every_kind_is_timed(tmp_path, capsys):
    before_s = sys.getswitchinterval()
    stem = tmp_path / "load"
    assert main(["--shape", "tiny", "--repeats", "2", "--commit", "abc", "--output", str(stem)]) == 0
    found = json.loads((tmp_path / "load.json").read_text())
    assert (found["machine"]["commit"], found["failures"]) == ("abc", [])
    stages, whole = found["tables"]["stages"], found["tables"]["whole"]
    assert [row["kind"] for row in stages] == [row["kind"] for row in whole] == ["store", "cold", "warm"]
    assert all(value > 0 for row in stages for name, value in row.items() if name != "kind")
    assert all(0 < row["loop_ms"] < row["total_ms"] for row in whole)
    assert [row["busy_threads"] for row in found["tables"]["lock"]] == [0, 1, 1]
    assert sys.getswitchinterval() == before_s
    assert "## stages" in capsys.readouterr().out


def test_a_wrong_command_line_is_refused(capsys):
    with pytest.raises(SystemExit):
        main(["--repeats", "0"])
    assert "--repeats" in capsys.readouterr().err
