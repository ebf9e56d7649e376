"""What loading one adapter costs, without a model: `python -m benchmarks.adapter_load`.

Adapters are bfloat16, of the shape's rank on every linear module. Tables, in ms:

    stages   each stage by itself, by the code that is served, on the thread that waits for it
      verify   the file read into memory, its chunks' digests compared with those kept in the cache
      parse    config and header read; every tensor's name, shape and dtype checked against the model
      check    no NaN, no infinity
      lay out  places of all tiles, DoRA's factors
      copy     into pages of the host arena, B transposed
      launch   the engine's loop launches the copies into the pool, or does them on a CPU, and writes a row
      land     until the loop hears that the copies have ended: steps use the adapter meanwhile
    whole    through fetcher, residency, loader and table as the engine drives them: `usable` from the request
             until a step may be launched that uses the adapter, `total` until its copies have ended, `loop`
             what of that the loop's thread was busy for
    lock     turns of a loop that wants the interpreter while another thread runs Python, at Python's own
             switch interval and at the engine's

`cold`: the file is dropped from the page cache first; `warm`: it is there; `store`: the adapter is not in the
cache at all and comes from a directory beside it.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.load_world import KINDS, LoadWorld
from benchmarks.lock_wait import lock_waits
from benchmarks.machine import describe
from benchmarks.report import Report
from benchmarks.shape import SHAPES
from services.inference.engine_parts import SWITCH_INTERVAL_S

NUM_TURNS = 20


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Raises SystemExit with a usage message."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.adapter_load", description="What loading one adapter costs."
    )
    parser.add_argument("--shape", choices=sorted(SHAPES), default="llama-8b")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cpu")
    parser.add_argument("--repeats", type=int, default=5, help="loads of each kind (%(default)s)")
    parser.add_argument("--pack-threads", type=int, help="default: as the server has on this machine")
    parser.add_argument("--directory", type=Path, help="where adapters are written; default: temporary")
    parser.add_argument("--output", type=Path, help="also writes OUTPUT.json and OUTPUT.md")
    parser.add_argument("--commit", default="", help="the commit to name, where this is no checkout")
    found = parser.parse_args(arguments)
    if found.repeats < 1:
        parser.error("--repeats: must be at least 1")
    if found.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: torch sees no CUDA device here")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures, prints and writes; the exit code."""
    options = parse(sys.argv[1:] if arguments is None else arguments)
    shape, device = SHAPES[options.shape], torch.device(options.device)
    with tempfile.TemporaryDirectory(prefix="multilora-load-", dir=options.directory) as directory:
        stem = options.output or Path(directory) / "report"
        machine = describe(device, options.commit, "benchmarks.adapter_load")
        with LoadWorld(shape, device, Path(directory), options.pack_threads) as world:
            machine |= {"shape": shape.name, "adapter_bytes": world.adapter_bytes}
            machine |= {"pack_threads": world.pack_threads}
            report = Report(stem, machine, f"Loading one adapter of {shape.name}'s shape, rank {shape.rank}")
            report.put("stages", [world.stages(kind, options.repeats) for kind in KINDS])
            report.put("whole", [world.whole(kind, options.repeats) for kind in KINDS])
            report.put("lock", lock_waits((0.005, SWITCH_INTERVAL_S), NUM_TURNS * options.repeats))
        print(report.markdown(), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
