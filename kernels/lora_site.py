"""Where in a model a LoRA delta is added: one site a linear module and layer.

Must not know models or services: a site is an index and two widths.
"""

from dataclasses import dataclass

TILE_ROWS = 16


@dataclass(frozen=True, slots=True)
class LoraSite:
    """One place where a LoRA delta is added.

    `index` is the site's row in every RankRowTable. `is_embedding` sites take token ids: their A
    has `in_features` = vocabulary columns, of which a token reads one.
    """

    index: int
    name: str
    in_features: int
    out_features: int
    is_embedding: bool = False


def tile_rows(width: int, page_elements: int) -> int:
    """Rank rows of `width` elements that one tile holds: 16, or the power of two that fits a page.

    Raises ValueError if not even one row fits.
    """
    rows = TILE_ROWS
    while rows * width > page_elements:
        rows //= 2
        if rows == 0:
            raise ValueError(f"a page of {page_elements} elements holds no rank row of {width}")
    return rows
