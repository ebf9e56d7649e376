"""Trains the demo's base model and adapters from scratch: python -m demo.train

Everything is trained in a scratch directory beside the old files and takes their place once all of it is
whole, so a training that is interrupted changes nothing. What came of it is measured by demo.train.evaluate.
Knows nothing of how training works.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import torch

from demo.train import adapters, base
from demo.train.fit import Schedule
from demo.train.workers import Training, train_side_by_side

_ABOUT = "Train the demo's model and adapters from scratch."
DEMO = Path(__file__).resolve().parent.parent


def main() -> int:
    """Trains what the arguments ask for; 130 when interrupted."""
    arguments = _parse()
    device = torch.device(arguments.device)
    with tempfile.TemporaryDirectory(dir=arguments.out, prefix=".training-") as scratch:
        try:
            _train(arguments, Path(scratch), device)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return 130
    print("trained; to measure: python -m demo.train.evaluate")
    return 0


def _train(arguments: argparse.Namespace, scratch: Path, device: torch.device) -> None:
    model = arguments.out / "model"
    if not arguments.only:
        model = scratch / "model"
        base.train_base(
            model, device, _scaled(base.SCHEDULE, arguments.scale), int(base.NUM_EXAMPLES * arguments.scale)
        )
    schedule = _scaled(adapters.SCHEDULE, arguments.scale)
    num_examples = int(adapters.NUM_EXAMPLES * arguments.scale)
    trainings = [
        Training(name, model, scratch / "adapters" / name, arguments.device, schedule, num_examples)
        for name in arguments.only or adapters.RECIPES
    ]
    train_side_by_side(trainings, arguments.jobs)
    for path in (*scratch.glob("model"), *scratch.glob("adapters/*")):
        target = arguments.out / path.relative_to(scratch)
        shutil.rmtree(target, ignore_errors=True)
        target.parent.mkdir(exist_ok=True)
        path.rename(target)


def _scaled(schedule: Schedule, scale: float) -> Schedule:
    num_steps = max(1, int(schedule.num_steps * scale))
    batch_size = max(2, int(schedule.batch_size * min(1.0, scale * 8)))
    return replace(schedule, num_steps=num_steps, batch_size=batch_size)


def _parse() -> argparse.Namespace:
    on_cuda = torch.cuda.is_available()
    parser = argparse.ArgumentParser(prog="python -m demo.train", description=_ABOUT)
    parser.add_argument("--device", default="cuda" if on_cuda else "cpu")
    parser.add_argument("--out", type=Path, default=DEMO, help="directory that gets model/ and adapters/")
    parser.add_argument(
        "--only", nargs="+", choices=list(adapters.RECIPES), help="these adapters, on the model there is"
    )
    jobs = min(len(adapters.RECIPES), os.cpu_count() or 1)
    parser.add_argument("--jobs", type=int, default=jobs, help="adapters at a time")
    parser.add_argument(
        "--scale", type=float, default=1.0, help="share of the full training, for a trial run"
    )
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
