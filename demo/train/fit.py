"""The training loop that the base model and every adapter go through.

Knows nothing of tasks or files: a module whose call gives logits, examples to fit, examples to measure on.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn import functional

from demo.train.examples import IGNORED, Examples


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long and how fast. `enough` is the measured accuracy at which training may stop early."""

    num_steps: int
    batch_size: int
    peak_lr: float
    warmup_steps: int = 100
    measure_every: int = 250
    enough: float = 1.1


def fit(
    model: torch.nn.Module,
    train: Examples,
    fresh: Examples,
    schedule: Schedule,
    report: Callable[[int, float, float], None],
) -> None:
    """Trains the parameters of `model` that require gradients, in place.

    `report` gets (step, loss, accuracy on `fresh`) every `measure_every` steps. The learning rate warms up,
    then falls by a cosine; once the accuracy reaches `enough`, it falls to zero within `measure_every` steps.
    """
    device = train.tokens_NL.device
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    fused = device.type == "cuda"
    optimizer = torch.optim.AdamW(parameters, betas=(0.9, 0.98), weight_decay=0.01, fused=fused)
    generator = torch.Generator(device).manual_seed(0)
    last_step, cooling_from = schedule.num_steps, math.inf
    step = 0
    while step < last_step:
        lr = schedule.peak_lr * _share_of_peak(step, schedule)
        if step >= cooling_from:
            lr *= (last_step - step) / schedule.measure_every
        for group in optimizer.param_groups:
            group["lr"] = lr
        index_B = torch.randint(len(train), (schedule.batch_size,), generator=generator, device=device)
        loss = answer_loss(model, *train.batch(index_B))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step += 1
        if step % schedule.measure_every == 0 or step == last_step:
            accuracy = exact_share(model, fresh)
            report(step, loss.item(), accuracy)
            if accuracy >= schedule.enough and step < cooling_from:
                cooling_from, last_step = step, min(last_step, step + schedule.measure_every)


def answer_loss(model: torch.nn.Module, tokens_BL: torch.Tensor, labels_BL: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy over the answer's tokens."""
    # No attention mask: padding is on the right, where no causal position of an answer looks.
    logits_BLV = model(input_ids=tokens_BL, use_cache=False).logits
    return functional.cross_entropy(logits_BLV.flatten(0, 1), labels_BL.flatten(), ignore_index=IGNORED)


@torch.no_grad()
def exact_share(model: torch.nn.Module, examples: Examples, batch_size: int = 1024) -> float:
    """The share of examples whose whole answer is the greedy one.

    Greedy decoding writes an answer if and only if each of its tokens is the likeliest after those before it.
    """
    num_exact = 0
    for index_B in torch.arange(len(examples), device=examples.tokens_NL.device).split(batch_size):
        tokens_BL, labels_BL = examples.batch(index_B)
        best_BL = model(input_ids=tokens_BL, use_cache=False).logits.argmax(dim=-1)
        num_exact += int(((best_BL == labels_BL) | (labels_BL == IGNORED)).all(dim=1).sum())
    return num_exact / len(examples)


def _share_of_peak(step: int, schedule: Schedule) -> float:
    if step < schedule.warmup_steps:
        return (step + 1) / schedule.warmup_steps
    done = (step - schedule.warmup_steps) / max(1, schedule.num_steps - schedule.warmup_steps)
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * done))
