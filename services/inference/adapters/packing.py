"""Lays an adapter's rank rows out in pages, in host memory, and makes what the table will say of them.

Legend: P pages, E elements of a page, R rank, I in_features, O out_features. Must not know files, the
network or who owns the pool's pages.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.lora_site import LoraSite
from kernels.movable_row import MovableRow
from kernels.table_row import NO_TILE, SiteRows, TableShape
from services.inference.adapters.adapter_weights import AdapterWeights, BaseCopy, SiteWeights
from services.inference.adapters.dora_factor import dora_factor
from services.inference.adapters.host_arena import HostArena, HostPages
from services.inference.adapters.page_layout import PageLayout, Tile
from services.inference.adapters.peft_config import unsupported
from services.inference.adapters.tile_copy import bits, copy_floats
from services.inference.adapters.workers import Workers
from services.inference.request import AdapterKey

BaseWeight = Callable[[LoraSite], Tensor]


@dataclass(frozen=True, slots=True, eq=False)
class PackedAdapter:
    """An adapter ready to be copied into pages of the pool.

    `pages` are on the host. They are filled in the order in which a step reads them: the embedding, then
    layer by layer, then the head; a small tile of a later layer may fill up an earlier page.
    """

    key: AdapterKey
    rank: int
    pages: HostPages
    row: MovableRow

    @property
    def num_pages(self) -> int:
        """Pages it fills."""
        return len(self.pages.tensors_E)

    @property
    def num_bytes(self) -> int:
        """Bytes of its pages, on the host as on the device."""
        return sum(tensor.nbytes for tensor in self.pages.tensors_E)


def pack(
    key: AdapterKey,
    weights: AdapterWeights,
    arena: HostArena,
    row_shape: TableShape,
    base_weight: BaseWeight,
    workers: Workers,
) -> PackedAdapter:
    """Rounds `weights` to the arena's dtype and lays them out, in the order of a step, in pages of it.

    `base_weight(site)` is [out_features, in_features] on any device; DoRA needs it. Raises
    ServiceError if the adapter brings a base weight of its own; no page is taken then.
    """
    for copy in weights.base_copies:
        _check_base_copy(copy, base_weight(copy.site))
    layout = PageLayout(arena.page_elements)
    ordered = sorted(weights.sites, key=lambda found: not found.site.is_embedding)
    rows = [_lay_out(site_weights, layout, base_weight) for site_weights in ordered]
    row = MovableRow(row_shape, rows, layout.num_pages, arena.page_elements)
    pages = arena.take(layout.num_pages)
    try:
        _copy(layout, pages, arena.dtype, workers)
    except BaseException:
        arena.give_back(pages)
        raise
    return PackedAdapter(key, weights.rank, pages, row)


def _copy(layout: PageLayout, pages: HostPages, dtype: torch.dtype, workers: Workers) -> None:
    targets = [bits(tensor_E) for tensor_E in pages.tensors_E]
    for page, start, stop in layout.gaps():
        # What others left here is nobody's to read.
        targets[page][start:stop] = 0

    def copy(tile: Tile) -> None:
        source = bits(tile.values)
        target = targets[tile.page][tile.start : tile.start + source.size].reshape(source.shape)
        copy_floats(target, dtype, source, tile.values.dtype)

    workers.map(copy, layout.tiles)


def _lay_out(weights: SiteWeights, layout: PageLayout, base_weight: BaseWeight) -> SiteRows:
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
