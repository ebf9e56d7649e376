"""What the pointwise kernels are held to, on any device: plain float64 arithmetic, row by row."""

import torch
from torch import Tensor

from kernels.activation import silu_mul
from kernels.norm import add_rms_norm_
from kernels.paged_kv import PagedKv
from kernels.pick_tokens import pick_tokens_
from kernels.rope_kv_write import rope_kv_write

ROUNDING = {torch.float32: 2**-24, torch.bfloat16: 2**-8, torch.float16: 2**-11}
# Triton's interpreter cuts a float32 off where a GPU rounds it.
CUT_OFF = {**ROUNDING, torch.bfloat16: 2**-7}
EPS = 1e-5
LAYERS = 2
LAYER = 1


def _random(*shape: int, dtype: torch.dtype) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))).to(dtype)


def _assert_rounded_once(found: Tensor, exact: Tensor, dtype: torch.dtype, num_terms: int = 4) -> None:
    """One rounding to `dtype`, and float32 sums of `num_terms` before it."""
    # Half the least number of float16, too.
    atol = 2**-25 + 2**-24 * num_terms * exact.abs().max().item()
    rounding = (ROUNDING if found.is_cuda else CUT_OFF)[dtype]
    torch.testing.assert_close(found.double().cpu(), exact, rtol=rounding * 1.01 + 2**-22, atol=atol)


def _rms_norm(h: Tensor, weight: Tensor) -> Tensor:
    return h * torch.rsqrt(h.square().mean(-1, keepdim=True) + EPS) * weight


def check_norm(num_rows: int, hidden: int, dtype: torch.dtype, device: str) -> None:
    h, delta, weight = (_random(n, hidden, dtype=dtype) for n in (num_rows, num_rows + 1, 1))
    delta, weight = delta[1:], weight[0]
    plain = h.clone().to(device)
    out = add_rms_norm_(plain, None, weight.to(device), EPS)
    assert torch.equal(plain.cpu(), h)
    _assert_rounded_once(out, _rms_norm(h.double(), weight.double()), dtype, hidden)
    summed = h.clone().to(device)
    out = add_rms_norm_(summed, delta.to(device), weight.to(device), EPS)
    _assert_rounded_once(summed, h.double() + delta.double(), dtype)
    _assert_rounded_once(out, _rms_norm(summed.cpu().double(), weight.double()), dtype, hidden)


def check_pick_tokens(num_tokens: int, dtype: torch.dtype, device: str) -> None:
    last = torch.arange(100, 100 + num_tokens, dtype=torch.int32)
    ids = [number if number % 3 else -1 - number for number in range(num_tokens)]
    found = torch.tensor(ids, dtype=dtype, device=device)
    pick_tokens_(found, last.to(device))
    assert found.tolist() == [99 - token if token < 0 else token for token in ids]


def check_silu_mul(num_rows: int, features: int, dtype: torch.dtype, device: str) -> None:
    x = _random(num_rows, 2 * features, dtype=dtype) * 5
    gate, up = x.double().chunk(2, dim=-1)
    _assert_rounded_once(silu_mul(x.to(device)), gate * gate.sigmoid() * up, dtype)


def check_rope_kv_write(
    heads_a_group: int, kv_heads: int, head_dim: int, has_norm: bool, dtype: torch.dtype, device: str
) -> None:
    page_tokens, slots = 4, [9, 3, -1, 18]
    num_heads = heads_a_group * kv_heads
    qkv = _random(len(slots), (num_heads + 2 * kv_heads) * head_dim, dtype=dtype)
    angles = _random(len(slots), head_dim // 2, dtype=torch.float32) * 9
    cos, sin = torch.cat([angles, angles], 1).cos(), torch.cat([angles, angles], 1).sin()
    norms = (_random(head_dim, dtype=dtype), _random(head_dim, 1, dtype=dtype)[:, 0].contiguous())
    pool = torch.full((5 * LAYERS * 2 * page_tokens * kv_heads * head_dim,), 7.0, dtype=dtype)
    kv = PagedKv(pool.to(device), LAYERS, page_tokens, kv_heads, head_dim)
    query = rope_kv_write(
        qkv.to(device),
        cos.to(device),
        sin.to(device),
        torch.tensor(slots, device=device),
        kv,
        LAYER,
        (norms[0].to(device), norms[1].to(device)) if has_norm else None,
        EPS,
    )
    heads = qkv.double().view(len(slots), -1, head_dim)
    q, k, v = heads.split([num_heads, kv_heads, kv_heads], dim=1)
    if has_norm:
        q, k = _rms_norm(q, norms[0].double()), _rms_norm(k, norms[1].double())
    q, k = _turn(q, angles.double()), _turn(k, angles.double())
    _assert_rounded_once(query, q, dtype, head_dim)
    found = kv.pool_E.view(5, LAYERS, 2, page_tokens, kv_heads, head_dim)
    untouched = torch.ones(5, LAYERS, 2, page_tokens, dtype=torch.bool, device=device)
    for row, slot in enumerate(slots):
        if slot >= 0:
            page, offset = divmod(slot, page_tokens)
            _assert_rounded_once(found[page, LAYER, 0, offset], k[row], dtype, head_dim)
            assert torch.equal(found[page, LAYER, 1, offset].double().cpu(), v[row])
            untouched[page, LAYER, :, offset] = False
    assert bool((found[untouched] == 7.0).all())


def _turn(x: Tensor, angles: Tensor) -> Tensor:
    low, high = x.chunk(2, dim=-1)
    cos, sin = angles.cos()[:, None], angles.sin()[:, None]
    return torch.cat([low * cos - high * sin, high * cos + low * sin], dim=-1)
