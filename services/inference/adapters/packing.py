"""Lays an adapter's rank rows out in pages, in host memory, and finds them again in the pool.

Legend: P pages, E elements of a page, R rank, I in_features, O out_features, C chunk of O. Must not
know files, the network or who owns the pool's pages. DoRA: Liu et al. 2024, as PEFT computes it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kernels.lora_site import LoraSite, tile_rows
from kernels.rank_row_table import NO_TILE, SiteRows
from services.inference.adapters.adapter_weights import AdapterWeights, BaseCopy, SiteWeights
from services.inference.adapters.peft_config import invalid, unsupported
from services.inference.request import AdapterKey

# Tiles start at multiples of this, so that 16-byte vector loads are aligned.
ALIGNMENT_ELEMENTS = 8
DORA_CHUNK_ELEMENTS = 1 << 22

BaseWeight = Callable[[LoraSite], Tensor]


@dataclass(frozen=True, slots=True)
class PageShape:
    """How pages are cut, and where copies of them are made."""

    page_elements: int
    dtype: torch.dtype
    pinned: bool = False

    def __post_init__(self) -> None:
        if self.page_elements % ALIGNMENT_ELEMENTS:
            raise ValueError(f"a page must be a multiple of {ALIGNMENT_ELEMENTS} elements")


@dataclass(frozen=True, slots=True)
class PackedAdapter:
    """An adapter ready to be copied into pages of the pool.

    `pages_PE` is on the host. Offsets in `rows` count as if its pages were the pool's first.
    """

    key: AdapterKey
    rank: int
    pages_PE: Tensor
    rows: tuple[SiteRows, ...]

    @property
    def num_pages(self) -> int:
        """Pages it fills."""
        return self.pages_PE.shape[0]

    @property
    def num_bytes(self) -> int:
        """Bytes of its pages, on the host as on the device."""
        return self.pages_PE.nbytes


def pack(
    key: AdapterKey, weights: AdapterWeights, shape: PageShape, base_weight: BaseWeight
) -> PackedAdapter:
    """Rounds `weights` to `shape.dtype` and lays them out, layer by layer.

    `base_weight(site)` is [out_features, in_features] on any device; DoRA needs it. Raises
    ServiceError if the adapter brings a base weight of its own.
    """
    for copy in weights.base_copies:
        _check_base_copy(copy, base_weight(copy.site))
    layout = _Layout(shape.page_elements)
    rows = [_lay_out(site_weights, layout, base_weight) for site_weights in weights.sites]
    pages_PE = torch.zeros(
        (layout.num_pages, shape.page_elements), dtype=shape.dtype, pin_memory=shape.pinned
    )
    flat = pages_PE.view(-1)
    for offset, tile in layout.tiles:
        flat[offset : offset + tile.numel()].view(tile.shape).copy_(tile)
    return PackedAdapter(key, weights.rank, pages_PE, tuple(rows))


def place(packed: PackedAdapter, pages: Sequence[int]) -> tuple[SiteRows, ...]:
    """`packed.rows` with offsets into the pool, when its page i lies in the pool's page `pages[i]`."""
    page_elements = packed.pages_PE.shape[1]

    def absolute(offset: int) -> int:
        page, within = divmod(offset, page_elements)
        return pages[page] * page_elements + within

    return tuple(
        replace(
            row,
            a_offsets=tuple(map(absolute, row.a_offsets)),
            b_offsets=tuple(map(absolute, row.b_offsets)),
            dora_offset=row.dora_offset if row.dora_offset == NO_TILE else absolute(row.dora_offset),
        )
        for row in packed.rows
    )


def dora_factor(weights: SiteWeights, weight_OI: Tensor) -> Tensor:
    """m / ||W + scale * BA|| - 1 per output column, norm over in_features; (O,) float32 on the host.

    Computed in float32 on `weight_OI`'s device, a few output columns at a time. Raises ServiceError
    if that is not finite.
    """
    assert weights.magnitude_O is not None
    device = weight_OI.device
    a_RI, b_OR = weights.a_RI.to(device, torch.float32), weights.b_RO.T.to(device, torch.float32)
    num_columns, width = weight_OI.shape
    chunk = max(1, DORA_CHUNK_ELEMENTS // width)
    norms = [
        torch.addmm(
            weight_OI[start : start + chunk].float(), b_OR[start : start + chunk], a_RI, alpha=weights.scale
        ).norm(dim=1)
        for start in range(0, num_columns, chunk)
    ]
    factor_O = weights.magnitude_O.float() / torch.cat(norms).cpu() - 1
    if not bool(torch.isfinite(factor_O).all()):
        raise invalid(weights.site.name, "a column of W + scale * BA is zero: DoRA cannot scale it")
    return factor_O


def _lay_out(weights: SiteWeights, layout: "_Layout", base_weight: BaseWeight) -> SiteRows:
    dora_offset = NO_TILE
    if weights.magnitude_O is not None:
        dora_offset = layout.add(dora_factor(weights, base_weight(weights.site)))
    return SiteRows(
        site=weights.site.index,
        rank=weights.rank,
        scale=weights.scale,
        a_offsets=layout.add_rows(weights.a_RI),
        b_offsets=layout.add_rows(weights.b_RO),
        dora_offset=dora_offset,
    )


def _check_base_copy(copy: BaseCopy, weight_OI: Tensor) -> None:
    mine, theirs = copy.weight_OI, weight_OI.to("cpu")
    # Either may have been saved in the coarser dtype.
    if not (torch.equal(mine.to(theirs.dtype), theirs) or torch.equal(mine, theirs.to(mine.dtype))):
        raise unsupported(copy.name, "differs from the base model's: a retrained embedding is not served")


class _Layout:
    """First fit: a tile goes into the first page that has room, and only then into a new one.

    So every page but the last is filled but for less than one tile.
    """

    def __init__(self, page_elements: int) -> None:
        self._page_elements = page_elements
        self._free: list[int] = []
        self.tiles: list[tuple[int, Tensor]] = []

    @property
    def num_pages(self) -> int:
        return len(self._free)

    def add_rows(self, rows_RK: Tensor) -> tuple[int, ...]:
        """Offsets of the tiles of `rows_RK`."""
        num_rows = tile_rows(rows_RK.shape[1], self._page_elements)
        return tuple(self.add(tile) for tile in torch.split(rows_RK, num_rows))

    def add(self, tile: Tensor) -> int:
        """Offset of `tile`."""
        size = -(-tile.numel() // ALIGNMENT_ELEMENTS) * ALIGNMENT_ELEMENTS
        page = next((page for page, free in enumerate(self._free) if free >= size), len(self._free))
        if page == len(self._free):
            self._free.append(self._page_elements)
        offset = (page + 1) * self._page_elements - self._free[page]
        self._free[page] -= size
        self.tiles.append((offset, tile))
        return offset
