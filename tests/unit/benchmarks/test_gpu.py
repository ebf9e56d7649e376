"""The program as a whole, on a CPU and a tiny shape."""

import json
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.engine_table import cells
from benchmarks.gpu import main
from benchmarks.shape import LLAMA_8B, TINY


@pytest.fixture(autouse=True)
def torch_threads():
    num_threads = torch.get_num_threads()
    yield
    torch.set_num_threads(num_threads)


def run(tmp_path: Path, *arguments: str) -> tuple[int, dict]:
    stem = tmp_path / "gpu"
    code = main(["--shape", "tiny", "--device", "cpu", "--output", str(stem), *arguments])
    assert (tmp_path / "gpu.md").read_text().startswith("# Multilora on tiny's shape")
    return code, json.loads((tmp_path / "gpu.json").read_text())


def test_engine_and_churn(tmp_path: Path):
    code, found = run(tmp_path, "--tables", "engine,churn", "--commit", "abc")
    assert (code, found["failures"], found["notes"]) == (0, [], [])
    assert found["machine"]["commit"] == "abc"
    assert found["machine"]["versions"]["torch"] == torch.__version__
    rows = found["tables"]["engine"]
    assert [(row["batch"], row["adapters"]) for row in rows] == [
        (1, 0),
        (1, 1),
        (4, 0),
        (4, 1),
        (4, 2),
        (4, 4),
    ]
    assert all(row["passes"] == TINY.engine.passes for row in rows)
    assert all(row["step_ms"] >= row["runner_ms"] > 0 for row in rows)
    assert [row["tpot_over_none"] for row in rows if row["adapters"] == 0] == [1.0, 1.0]
    churn = found["tables"]["churn"]
    assert [row["newcomers"] for row in churn] == ["none", "resident", "host", "cold"]
    assert [row["num_newcomers"] for row in churn] == [0, 2, 2, 2]
    assert all(row["step_p50_ms"] <= row["step_p99_ms"] <= row["step_max_ms"] for row in churn)
    assert all(row["ttft_p50_ms"] > 0 and row["idle_ttft_p50_ms"] > 0 for row in churn[1:])


def test_thousands(tmp_path: Path):
    code, found = run(tmp_path, "--tables", "thousands")
    assert (code, found["failures"], found["notes"]) == (0, [], [])
    few, many = found["tables"]["thousands"]
    assert (few["adapters"], few["files"], few["over_few"]) == (2, 2, None)
    assert (many["adapters"], many["files"], many["requests"]) == (12, 8, 20)
    assert many["over_few"] == many["tokens_per_s"] / few["tokens_per_s"]
    # The few were loaded by the first replay; the others come in once each.
    assert few["loads"] == few["used"] == 2
    assert many["loads"] >= many["used"] - few["used"]
    assert 0 < many["ttft_p50_ms"] <= many["ttft_p99_ms"]


def test_service(tmp_path: Path):
    code, found = run(tmp_path, "--tables", "service")
    assert (code, found["failures"], found["notes"]) == (0, [], [])
    alone, through = found["tables"]["service"]
    assert [row["through"] for row in (alone, through)] == ["engine alone", "gRPC"]
    assert (through["streams"], through["adapters"], through["passes"]) == (4, 4, TINY.engine.passes)
    assert through["over_engine"] == through["tokens_per_s"] / alone["tokens_per_s"]
    assert 0 < through["ttft_p50_ms"] <= through["ttft_p99_ms"]


def test_a_machine_without_the_service_s_packages_is_told_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "benchmarks.service.directory_store", None)
    code, found = run(tmp_path, "--tables", "service")
    assert code == 0
    assert "benchmarks.service.directory_store is not installed" in found["notes"][0]
    assert [row["through"] for row in found["tables"]["service"]] == ["engine alone"]


def test_without_time_everything_skipped_is_named(tmp_path: Path):
    code, found = run(tmp_path, "--seconds-budget", "0")
    assert code == 0
    text = " ".join(found["notes"])
    assert "cells (batch x adapters) 4 x 0, 4 x 1" in text
    assert "churn: none and what follows" in text
    assert "thousands: all of it" in text
    assert "service: all of it" in text
    assert "kernel: o from batch 1 on" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--tables", "engine,nosuch"), "no table 'nosuch'"),
        (("--shape", "no"), "invalid"),
    ],
)
def test_a_wrong_command_line_is_refused(
    arguments: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
):
    with pytest.raises(SystemExit):
        main(["--device", "cpu", *arguments])
    assert message in capsys.readouterr().err


def test_the_cells_of_the_large_shape():
    found = sorted(cells(LLAMA_8B.engine))
    assert [count for batch, count in found if batch == 256] == [0, 1, 32, 64, 256]
    assert [count for batch, count in found if batch == 32] == [0, 1, 32]
    assert len(found) == 19
