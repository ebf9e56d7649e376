"""Trains several adapters side by side, each in a process of its own.

Knows nothing of recipes or files.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from demo.train.adapters import train_adapter
from demo.train.fit import Schedule


@dataclass(frozen=True, slots=True)
class Training:
    """One adapter to train: the arguments of `train_adapter`."""

    name: str
    base: Path
    directory: Path
    device: str
    schedule: Schedule
    num_examples: int


def train_side_by_side(trainings: Sequence[Training], num_workers: int) -> None:
    """Runs every training, `num_workers` at a time; ends the rest as soon as one fails or Ctrl-C comes."""
    # spawn, because a forked process cannot use CUDA.
    context = multiprocessing.get_context("spawn")
    pool = context.Pool(min(num_workers, len(trainings)), _start_worker, maxtasksperchild=1)
    try:
        for name, accuracy in pool.imap_unordered(_run, trainings):
            print(f"{name}: done, {accuracy:.1%} right on fresh words", flush=True)
    finally:
        pool.terminate()
        pool.join()


def _run(training: Training) -> tuple[str, float]:
    device = torch.device(training.device)
    accuracy = train_adapter(
        training.name, training.base, training.directory, device, training.schedule, training.num_examples
    )
    return training.name, accuracy


def _start_worker() -> None:
    # Ctrl-C reaches the whole process group: the parent alone answers it, and ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
