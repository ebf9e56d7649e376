import math

import pytest
import torch

from services.inference.model.config import RopeConfig
from services.inference.model.rope import Rope

CPU = torch.device("cpu")


def _turned(config: RopeConfig, position: int, pair: int, head_dim: int = 8) -> tuple[float, float]:
    """Where the unit vector of dimension `pair` goes: its part there and in its partner."""
    unit_TGD = torch.zeros(1, 1, head_dim)
    unit_TGD[0, 0, pair] = 1.0
    out = Rope(config, head_dim, torch.float32, CPU).rotation(torch.tensor([position])).turn(unit_TGD)[0, 0]
    return out[pair].item(), out[pair + head_dim // 2].item()


@pytest.mark.parametrize("pair", [0, 1, 3])
def test_a_pair_turns_by_position_over_theta_to_its_power(pair: int) -> None:
    angle = 5 / 100.0 ** (pair / 4)
    assert _turned(RopeConfig(100.0), 5, pair) == pytest.approx((math.cos(angle), math.sin(angle)), abs=1e-5)


def test_linear_scaling_stretches_positions() -> None:
    scaled = _turned(RopeConfig(100.0, "linear", factor=4.0), 12, 1)
    assert scaled == pytest.approx(_turned(RopeConfig(100.0), 3, 1), abs=1e-6)


def test_llama3_keeps_short_wavelengths_stretches_long_ones_and_blends_between() -> None:
    config = RopeConfig(
        10000.0, "llama3", 8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_context_tokens=64
    )
    # Wavelengths 6.3, 63, 628, 6283 against bounds 16 and 64.
    assert _turned(config, 3, 0) == pytest.approx(_turned(RopeConfig(10000.0), 3, 0), abs=1e-6)
    for pair in (2, 3):
        assert _turned(config, 24, pair) == pytest.approx(_turned(RopeConfig(10000.0), 3, pair), abs=1e-6)
    plain = 0.1
    smooth = (64 * plain / (2 * math.pi) - 1) / 3
    angle = 3 * ((1 - smooth) * plain / 8 + smooth * plain)
    assert _turned(config, 3, 1) == pytest.approx((math.cos(angle), math.sin(angle)), abs=1e-5)


def test_far_positions_keep_their_angle_in_half_precision() -> None:
    position = 100_003
    heads_TGD = torch.ones(1, 1, 2, dtype=torch.bfloat16)
    rope = Rope(RopeConfig(10000.0), 2, torch.bfloat16, CPU)
    out = rope.rotation(torch.tensor([position])).turn(heads_TGD)[0, 0].float()
    expected = [math.cos(position) - math.sin(position), math.cos(position) + math.sin(position)]
    assert out.tolist() == pytest.approx(expected, abs=3 * 2**-8)


def test_an_unknown_kind_is_a_defect() -> None:
    with pytest.raises(ValueError, match="yarn"):
        Rope(RopeConfig(1.0, "yarn"), 8, torch.float32, CPU)
