"""Replayed decode steps against the same steps launch by launch."""

from pathlib import Path

import pytest
import torch

pytest.importorskip("peft")

from services.inference.model.last_tokens import LastTokens
from tests.gpu.step_graphs import make_decode_graphs
from tests.integration.inference.architectures import ARCHITECTURES, TinyModel
from tests.integration.inference.decode_step_checks import MAX_ROWS, DecodeWorld, from_last


@pytest.mark.parametrize(
    "architecture", [ARCHITECTURES[3], ARCHITECTURES[5]], ids=lambda architecture: architecture.name
)
def test_a_replayed_step_gives_the_eager_step_s_logits(tmp_path: Path, architecture: TinyModel) -> None:
    world = DecodeWorld(architecture, tmp_path, torch.device("cuda"))
    last_tokens = LastTokens(MAX_ROWS, torch.device("cuda"))
    graphs = make_decode_graphs(world.paged.decoder, last_tokens)
    assert not graphs.takes(world.paged.slices([(world.streams[0], 1), (world.streams[1], 2)]))
    for rows in (slice(None), slice(0, 2), slice(3, 6), slice(4, 5), slice(0, 9)):
        world.check_step(graphs.run, world.streams[rows])
        world.check_step(from_last(graphs.run, last_tokens), world.streams[rows])
    world.check_reload(graphs.run)
