"""The engine's figures on one machine: `python -m benchmarks.gpu`, or `make bench-gpu`.

Needs torch, triton, safetensors, grpcio and numpy; no store, network or checkpoint. Tables:

    engine   time a token, prefill and throughput, by batch and number of distinct adapters
    churn    steps of running streams while others' adapters arrive; times to first token
    thousands  S-LoRA's trace over many adapters of many ranks, against the same over a few
    service  the whole service through gRPC against the engine alone; wants multilora[inference]'s packages
    kernel   SGMV against its floor and the base matmul, by batch, popularity and ranks

Whatever the time allows is measured, what it did not allow is named, and the files are written all along.
Exits with 1 if an output was wrong or a table could not be taken.
"""

import argparse
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import torch

from benchmarks.budget import Budget
from benchmarks.churn_table import run_churn_table
from benchmarks.device_timing import copy_bytes_per_s, launch_seconds
from benchmarks.engine_table import cells, run_engine_table
from benchmarks.kernel_table import Ceilings, KernelRow, is_right, run_kernel_table
from benchmarks.kernel_world import KernelWorld
from benchmarks.machine import describe
from benchmarks.mixed_check import check_mixed
from benchmarks.output_check import MAX_OVER_PLAIN, check_logits
from benchmarks.random_model import write_config
from benchmarks.report import Report
from benchmarks.service_table import run_service_table
from benchmarks.shape import SHAPES, BenchShape
from benchmarks.thousands_table import run_thousands_table
from benchmarks.workbench import Workbench, workbench
from services.inference.model.config import read_config

# What a table may spend of the time, next to those that come after it.
WEIGHTS = {"engine": 5.0, "churn": 1.5, "thousands": 4.0, "service": 1.5, "kernel": 2.0}
NUM_CHECK_ADAPTERS = 32
MOST_ROWS_PRINTED = 40


@dataclass(frozen=True, slots=True)
class Options:
    """The command line."""

    tables: tuple[str, ...]
    shape: BenchShape
    device: str
    seconds_budget: float
    output: Path
    directory: Path | None
    commit: str


def parse(arguments: Sequence[str]) -> Options:
    """Raises SystemExit with a usage message."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description="The engine's figures on one machine."
    )
    parser.add_argument(
        "--tables", default="engine,churn,thousands,service,kernel", help="which, in this order (%(default)s)"
    )
    parser.add_argument("--seconds-budget", type=float, default=540.0, help="time to spend (%(default)s)")
    parser.add_argument(
        "--output", type=Path, default=Path("docs/benchmarks/gpu"), help="OUTPUT.json and OUTPUT.md"
    )
    parser.add_argument("--shape", choices=sorted(SHAPES), default="llama-8b")
    parser.add_argument("--most-adapters", type=int, help="leave out engine cells with more; default: none")
    parser.add_argument("--many-adapters", type=int, help="of the thousands table; default: the shape's")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--directory", type=Path, help="keeps adapters from run to run; default: temporary")
    parser.add_argument("--commit", default="", help="the commit to name, where this is no checkout")
    found = parser.parse_args(arguments)
    tables = tuple(found.tables.split(","))
    unknown = sorted(set(tables) - set(WEIGHTS))
    if unknown:
        parser.error(f"--tables: no table {unknown[0]!r}; there are {', '.join(WEIGHTS)}")
    if found.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch sees no CUDA device here")
    shape = SHAPES[found.shape]
    if found.most_adapters is not None:
        shape = replace(shape, engine=replace(shape.engine, most_adapters=found.most_adapters))
    if found.many_adapters is not None:
        shape = replace(shape, thousands=replace(shape.thousands, many=found.many_adapters))
    return Options(
        tables=tables,
        shape=shape,
        device=found.device,
        seconds_budget=found.seconds_budget,
        output=found.output,
        directory=found.directory,
        commit=found.commit,
    )


class Run:
    """One run of the program: its time, its report and what the device can do at best."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._shape = options.shape
        self._device = torch.device(options.device)
        self._budget = Budget(options.seconds_budget)
        self._dtype = torch.bfloat16 if options.device == "cuda" else torch.float32
        self._remaining = list(options.tables)
        copying = copy_bytes_per_s(self._device, self._shape.copy_bytes)
        self._ceilings = Ceilings(copying, launch_seconds(self._device))
        self.report = Report(
            options.output,
            {
                **describe(self._device, options.commit),
                "shape": self._shape.name,
                "dtype": str(self._dtype),
                "copy_bytes_per_s": copying,
                "launch_us": self._ceilings.launch_s * 1e6,
            },
            f"Multilora on {self._shape.name}'s shape, random weights, rank {self._shape.rank}",
        )
        self._budget.say(f"copies {copying / 1e12:.3f} TB/s, launches {self._ceilings.launch_s * 1e6:.2f} us")

    def run(self) -> int:
        """Takes the tables; the exit code."""
        self.report.write()
        with _directory(self._options.directory) as directory:
            for part in self._parts(directory):
                self._guarded(part)
                if self._device.type == "cuda":
                    torch.cuda.empty_cache()
        self.report.write()
        for text in (*self.report.notes, *self.report.failures):
            self._budget.say(text)
        print(self.report.markdown(MOST_ROWS_PRINTED), flush=True)
        return 1 if self.report.failures else 0

    def _parts(self, directory: Path) -> list[Callable[[], None]]:
        """In the order asked for, where a part is as early as its first table: none holds the device beside
        another."""
        own: dict[str, Callable[[], None]] = {
            "kernel": self._kernel_part,
            "service": partial(self._service_part, directory),
        }
        on_engine = [name for name in self._options.tables if name not in own]
        parts: list[Callable[[], None]] = []
        for name in self._options.tables:
            if name in own:
                parts.append(own[name])
            elif name == on_engine[0]:
                parts.append(partial(self._engine_part, directory, on_engine))
        return parts

    def _service_part(self, directory: Path) -> None:
        skipped = run_service_table(
            self._shape,
            self._options.device,
            directory,
            self._table_budget("service"),
            lambda rows: self.report.put("service", rows),
        )
        if skipped:
            self.report.notes.append(f"not measured: {skipped}")
        self.report.write()

    def _guarded(self, take: Callable[[], None]) -> None:
        try:
            take()
        except Exception as error:
            traceback.print_exc()
            self.report.failures.append(f"a table could not be taken: {type(error).__name__}: {error}"[:500])
            self.report.write()

    def _table_budget(self, table: str) -> Budget:
        share = WEIGHTS[table] / sum(WEIGHTS[name] for name in self._remaining)
        self._remaining.remove(table)
        return self._budget.share(share)

    def _engine_part(self, directory: Path, tables: Sequence[str]) -> None:
        num_adapters = self._num_adapters(tables)
        options, ranks = self._options, [self._shape.rank] * num_adapters
        with workbench(self._shape, options.device, ranks, directory) as bench:
            self._budget.say(f"engine is warm, {num_adapters} adapters are on disk")
            self._guarded(partial(self._check, bench))
            for table in tables:
                self._guarded(partial(self._on_engine, bench, table))

    def _on_engine(self, bench: Workbench, table: str) -> None:
        budget = self._table_budget(table)
        if table == "engine":
            bandwidth = self._ceilings.copy_bytes_per_s
            skipped = run_engine_table(bench, bandwidth, budget, lambda rows: self.report.put(table, rows))
        elif table == "churn":
            skipped = run_churn_table(bench, budget, lambda rows: self.report.put(table, rows))
        else:
            skipped = run_thousands_table(bench, budget, lambda rows: self.report.put(table, rows))
        self._note_skipped(skipped)

    def _num_adapters(self, tables: Sequence[str]) -> int:
        engine, churn = self._shape.engine, self._shape.churn
        wanted = [min(NUM_CHECK_ADAPTERS, max(engine.batches))]
        if "engine" in tables:
            wanted.append(max(count for _, count in cells(engine)))
        if "churn" in tables:
            wanted.append(churn.num_resident + churn.num_newcomers)
        return max(wanted)

    def _check(self, bench: Workbench) -> None:
        num_adapters = min(NUM_CHECK_ADAPTERS, len(bench.adapters), max(self._shape.engine.batches))
        logits = check_logits(bench, num_adapters)
        self._budget.say(f"{logits}")
        mixed = check_mixed(bench, num_adapters, MAX_OVER_PLAIN * logits.plain_rms)
        self._budget.say(f"{mixed}")
        self.report.put("check: log-probabilities against plain torch one precision up", [logits])
        self.report.put("check: mixed batch against each request alone", [mixed])
        if not logits.passed:
            self.report.failures.append(f"log-probabilities are wrong: {logits}")
        if not mixed.passed:
            self.report.failures.append(f"a mixed batch differs from its requests alone: {mixed}")

    def _kernel_part(self) -> None:
        budget = self._table_budget("kernel")
        with tempfile.TemporaryDirectory() as model_dir:
            write_config(Path(model_dir), self._shape.config)
            config = read_config(Path(model_dir))
        world = KernelWorld(self._shape, config, self._dtype, self._device)
        self._budget.say("kernel: adapters are in the pool")
        taken: list[KernelRow] = []

        def on_rows(rows: list[KernelRow]) -> None:
            taken[:] = rows
            self.report.put("kernel", rows)

        self._note_skipped(run_kernel_table(world, self._shape.kernel, self._ceilings, budget, on_rows))
        wrong = [row for row in taken if not is_right(row, self._dtype)]
        if wrong:
            self.report.failures.append(f"{len(wrong)} kernel cells are wrong; the first: {wrong[0]}")

    def _note_skipped(self, skipped: str) -> None:
        if skipped:
            self.report.notes.append(f"not measured for lack of time: {skipped}")
        self.report.write()


@contextmanager
def _directory(kept: Path | None) -> Iterator[Path]:
    if kept is not None:
        yield kept
    else:
        with tempfile.TemporaryDirectory(prefix="multilora-bench-") as directory:
            yield Path(directory)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs what the command line asks for; the exit code."""
    return Run(parse(sys.argv[1:] if arguments is None else arguments)).run()


if __name__ == "__main__":
    sys.exit(main())
