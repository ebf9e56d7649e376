import hashlib
import math

import torch

from tests.sampling import noise_like


def test_an_entry_depends_on_seed_position_and_token_alone() -> None:
    alone = noise_like([(7, 3)], torch.empty(1, 100))
    among = noise_like([(1, 3), (7, 3), (7, 4)], torch.empty(3, 1000))
    assert torch.equal(alone[0], among[1, :100])
    assert not torch.equal(among[0], among[1])
    assert not torch.equal(among[1], among[2])


def _mix(value: int) -> int:
    value ^= value >> 16
    value = value * 0x21F0AAAD & 0xFFFFFFFF
    value ^= value >> 15
    value = value * 0x735A2D97 & 0xFFFFFFFF
    return value ^ value >> 15


def _reference(seed: int, position: int, token: int) -> float:
    digest = hashlib.blake2b(f"{seed}:{position}".encode(), digest_size=8).digest()
    first, second = int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:], "little")
    uniform = ((_mix(_mix(token) ^ first) ^ second) + 0.5) / 2**32
    return -math.log(-math.log1p(-uniform))


def test_values_match_the_definition_in_whole_numbers() -> None:
    # A request that is retried elsewhere must go on as it began: these may never change.
    keys = [(42, 0), (-1, 5), (2**63 - 1, 5)]
    expected = [[_reference(*key, token) for token in range(300)] for key in keys]
    noise = noise_like(keys, torch.empty(3, 300))
    torch.testing.assert_close(noise, torch.tensor(expected), rtol=1e-5, atol=1e-5)


def test_values_are_finite_and_gumbel() -> None:
    keys = [(seed, position) for seed in range(40) for position in range(25)]
    noise = noise_like(keys, torch.empty(1000, 1000))
    assert torch.isfinite(noise).all()
    # A million draws: five standard errors of the mean, the variance and the tail's share.
    assert abs(noise.mean().item() - 0.577216) < 5 * math.sqrt(math.pi**2 / 6 / 1e6)
    assert abs(noise.var().item() - math.pi**2 / 6) < 5 * math.sqrt((5.4 - 1) * (math.pi**2 / 6) ** 2 / 1e6)
    share = 1 - math.exp(-math.exp(-5.0))
    assert abs((noise > 5.0).float().mean().item() - share) < 5 * math.sqrt(share / 1e6)


def test_neighbouring_keys_and_tokens_are_uncorrelated() -> None:
    noise = noise_like([(0, position) for position in range(1000)], torch.empty(1000, 500))
    centred = (noise - noise.mean()) / noise.std()
    bound = 5 / math.sqrt(centred.numel())
    assert abs((centred[1:] * centred[:-1]).mean().item()) < bound
    assert abs((centred[:, 1:] * centred[:, :-1]).mean().item()) < bound
