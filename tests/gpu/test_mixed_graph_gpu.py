"""Replayed steps with chunks against the same steps launch by launch."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

pytest.importorskip("peft")

from services.inference.batch import Slice
from services.inference.copy_stream import make_copy_stream
from services.inference.layer_gates import LoadGates
from services.inference.model.last_tokens import LastTokens
from services.inference.model.sites import site_layers
from tests.gpu.step_graphs import MAX_TOKENS, make_both_graphs
from tests.integration.inference.architectures import ARCHITECTURES, TinyModel
from tests.integration.inference.decode_step_checks import MAX_ROWS, DecodeWorld, from_last
from tests.integration.inference.mixed_step_checks import DORA, LARGE_MIX, MIXES, check_mix

CUDA = torch.device("cuda")
DELAY_CYCLES = 100_000_000


class World:
    """A world with graphs of all its steps, and the stream that copies into its pool."""

    def __init__(self, architecture: TinyModel, directory: Path) -> None:
        self.world = DecodeWorld(architecture, directory, CUDA)
        self.copies = make_copy_stream(CUDA)
        self.gates = LoadGates(site_layers(self.world.paged.config), self.copies.make_gate)
        self.last_tokens = LastTokens(MAX_ROWS, CUDA)
        decoder = self.world.paged.fused(directory / "model")
        self.mixed, self.decode = make_both_graphs(decoder, self.last_tokens, self.gates)

    def run_behind_a_copy(self, slices: Sequence[Slice]) -> Tensor:
        """Launched while everything in the pool is still on its way there."""
        pool_E, end = self.world.paged.pool_E, self.copies.make_end()
        copied_E = pool_E.clone()
        pool_E.fill_(torch.nan)
        with self.copies.behind_steps():
            torch.cuda._sleep(DELAY_CYCLES)
            pool_E.copy_(copied_E)
            for gate in range(self.gates.num_gates):
                self.gates.record(gate)
            end.record()
        adapters = {part.adapter_index for part in slices}
        for adapter in adapters:
            self.gates.begin(adapter, end)
        logits_MV = self.mixed.run(slices)
        end.synchronize()
        for adapter in adapters:
            self.gates.end(adapter)
        torch.cuda.synchronize()
        return logits_MV


@pytest.mark.parametrize(
    "architecture", [ARCHITECTURES[3], ARCHITECTURES[5]], ids=lambda architecture: architecture.name
)
def test_a_replayed_step_gives_the_eager_step_s_logits(
    tmp_path: Path, architecture: TinyModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So the smaller of the two sizes has small row tiles, the larger tiles of 64 rows.
    monkeypatch.setattr("kernels.tuning.MAX_PADDED_DECODE_ROWS", 64)
    world = World(architecture, tmp_path)
    for chunks, silent in MIXES.values():
        check_mix(world.world, world.mixed.run, chunks, silent)
        world.world.check_step(world.decode.run, world.world.streams[2:6])
    check_mix(world.world, world.mixed.run, LARGE_MIX, ())
    world.world.check_reload(world.mixed.run)


def test_rows_take_their_tokens_from_the_step_before(tmp_path: Path) -> None:
    world = World(ARCHITECTURES[3], tmp_path)
    check_mix(world.world, from_last(world.mixed.run, world.last_tokens), *MIXES["beside_decodes"])


def test_a_replayed_step_waits_for_the_copies_of_its_adapters(tmp_path: Path) -> None:
    world = World(ARCHITECTURES[5], tmp_path)
    check_mix(world.world, world.run_behind_a_copy, [(2, 4), (DORA, 7)], ())
    check_mix(world.world, world.mixed.run, [(2, 2), (DORA, 2)], ())


def test_a_step_too_large_for_every_graph_is_not_taken(tmp_path: Path) -> None:
    world = World(ARCHITECTURES[0], tmp_path)
    part = Slice([0], 0, [0], 0, wants_logits=True)
    assert world.mixed.takes([part] * MAX_ROWS)
    assert not world.mixed.takes([part] * (MAX_ROWS + 1))
    assert world.mixed.takes([Slice([0] * MAX_TOKENS, 0, [0], 0, wants_logits=False)])
    assert not world.mixed.takes([Slice([0] * (MAX_TOKENS + 1), 0, [0], 0, wants_logits=False)])
