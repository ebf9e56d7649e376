"""The sites that share an input, as the tables one launch needs to serve them all.

Must not know adapters; built once a group of sites.

Legend: G sites of the group, C column tiles over all of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kernels.lora_site import LoraSite
from kernels.rank_row_table import RankRowTable

SITE_FIELDS = 5


@dataclass(frozen=True, slots=True)
class SiteGroup:
    """sites_G5[g] = (site index, tile rows of A, tile rows of B, out features, first column of y).

    columns_C2[c] = (g, first column within the site): no column tile straddles two sites. int32.
    """

    sites_G5: Tensor
    columns_C2: Tensor
    num_sites: int
    in_features: int
    is_aligned: bool
    """Whether every rank row starts on the 16 bytes that tiles are aligned to."""


def make_site_group(table: RankRowTable, sites: Sequence[LoraSite], tile_columns: int) -> SiteGroup:
    """Tables on the pool's device for `sites`, side by side in y in this order."""
    rows: list[tuple[int, ...]] = []
    columns: list[tuple[int, int]] = []
    column = 0
    for g, site in enumerate(sites):
        w = site.index
        rows.append((w, table.a_rows[w], table.b_rows[w], site.out_features, column))
        columns.extend((g, first) for first in range(0, site.out_features, tile_columns))
        column += site.out_features
    device, itemsize = table.pool_E.device, table.pool_E.itemsize
    widths = [width for site in sites for width in (site.in_features, site.out_features)]
    return SiteGroup(
        sites_G5=torch.tensor(rows, dtype=torch.int32).to(device),
        columns_C2=torch.tensor(columns, dtype=torch.int32).to(device),
        num_sites=len(sites),
        in_features=sites[0].in_features,
        is_aligned=all(width * itemsize % 16 == 0 for width in widths),
    )
