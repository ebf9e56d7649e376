"""What one step with chunks reads, in device memory that never moves, sent in one copy.

Must not know models or graphs. Rows past the step's own are padding: token 0, no slot to write, no adapter,
in no tile; logits wanted past those of the step are of row 0.

Legend: T tokens of the shape, W tiles, M sequences of the shape, X pages of all sequences.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

from kernels.prefill_attention import TILE_FIELDS as QUERY_FIELDS
from kernels.row_tiles import NO_WORK, TILE_FIELDS, RowTiles
from kernels.segments import BASE
from services.inference.batch import Slice
from services.inference.model.chunk_layout import ChunkLayout, TileRows, lay_out
from services.inference.model.mixed_shape import MixedShape
from services.inference.model.sent_fields import SentFields
from services.inference.model.sent_words import WordArray
from services.inference.model.step_buffer import DECODE_TILE_ROWS, NO_SLOT
from services.inference.model.tile_cuts import Ints

_NO_TILE = (NO_WORK, 0, 0)
Words = TypeVar("Words", Tensor, WordArray)


@dataclass(frozen=True, slots=True)
class MixedViews:
    """A step's numbers on the device, int32; wanted_tiles cut the M wanted rows, counted among themselves."""

    token_ids_T: Tensor
    positions_T: Tensor
    slots_T: Tensor
    query_tiles_W4: Tensor
    row_tiles: RowTiles
    wanted_rows_M: Tensor
    wanted_tiles: RowTiles
    pages_X: Tensor


class _Fields(NamedTuple, Generic[Words]):
    """The arrays of a buffer, in the order they lie in; pages come last, as many as a step has."""

    token_ids: Words
    positions: Words
    slots: Words
    adapters: Words
    query_tiles: Words
    row_tiles: Words
    num_row_tiles: Words
    wanted_rows: Words
    wanted_adapters: Words
    wanted_tiles: Words
    num_wanted_tiles: Words
    pages: Words


class MixedBuffer:
    """Room for a step of each of `shapes`, with `max_pages` pages in all."""

    def __init__(
        self, shapes: Sequence[MixedShape], max_pages: int, page_tokens: int, device: torch.device
    ) -> None:
        self._page_tokens = page_tokens
        max_tokens = max(shape.num_tokens for shape in shapes)
        max_wanted = max(shape.max_sequences for shape in shapes)
        query_words = max(shape.num_query_tiles for shape in shapes) * QUERY_FIELDS
        tile_words = max(shape.num_row_tiles for shape in shapes) * TILE_FIELDS
        wanted_words = (max_wanted, max_wanted, max_wanted * TILE_FIELDS, 1)
        lengths = (*(max_tokens,) * 4, query_words, tile_words, 1, *wanted_words, max_pages)
        self._fields = SentFields(lengths, device)

    def views(self, shape: MixedShape) -> MixedViews:
        """The rows and tiles of a step that is padded to `shape`."""
        fields = _Fields(*self._fields.device)
        num_tokens, num_wanted = shape.num_tokens, shape.max_sequences
        return MixedViews(
            token_ids_T=fields.token_ids[:num_tokens],
            positions_T=fields.positions[:num_tokens],
            slots_T=fields.slots[:num_tokens],
            query_tiles_W4=_table(fields.query_tiles, shape.num_query_tiles, QUERY_FIELDS),
            row_tiles=RowTiles(
                tiles_W3=_table(fields.row_tiles, shape.num_row_tiles, TILE_FIELDS),
                num_tiles_1=fields.num_row_tiles,
                row_adapters_T=fields.adapters[:num_tokens],
                tile_rows=shape.row_tile_rows,
            ),
            wanted_rows_M=fields.wanted_rows[:num_wanted],
            wanted_tiles=RowTiles(
                tiles_W3=_table(fields.wanted_tiles, num_wanted, TILE_FIELDS),
                num_tiles_1=fields.num_wanted_tiles,
                row_adapters_T=fields.wanted_adapters[:num_wanted],
                tile_rows=DECODE_TILE_ROWS,
            ),
            pages_X=fields.pages,
        )

    def fill(self, slices: Sequence[Slice], shape: MixedShape) -> None:
        """Sends `slices`, padded to `shape`, which has room for them; in the stream's order."""
        tile_rows = TileRows(shape.query_tile_rows, shape.row_tile_rows, DECODE_TILE_ROWS)
        layout = lay_out(slices, self._page_tokens, tile_rows)
        _pack(_Fields(*self._fields.host()), layout, shape)
        self._fields.send(len(layout.pages_X))


def _pack(fields: _Fields[WordArray], layout: ChunkLayout, shape: MixedShape) -> None:
    num_tokens, num_wanted = shape.num_tokens, shape.max_sequences
    _put(fields.token_ids[:num_tokens], layout.token_ids_T, 0)
    _put(fields.positions[:num_tokens], layout.positions_T, 0)
    _put(fields.slots[:num_tokens], layout.slots_T, NO_SLOT)
    _put(fields.adapters[:num_tokens], layout.adapters_T, BASE)
    _put(_table(fields.query_tiles, shape.num_query_tiles, QUERY_FIELDS), layout.query_tiles_W4, 0)
    _put(_table(fields.row_tiles, shape.num_row_tiles, TILE_FIELDS), layout.row_tiles_W3, _NO_TILE)
    fields.num_row_tiles[0] = len(layout.row_tiles_W3)
    _put(fields.wanted_rows[:num_wanted], layout.wanted_rows_M, 0)
    _put(fields.wanted_adapters[:num_wanted], layout.wanted_adapters_M, BASE)
    _put(_table(fields.wanted_tiles, num_wanted, TILE_FIELDS), layout.wanted_tiles_W3, _NO_TILE)
    fields.num_wanted_tiles[0] = len(layout.wanted_tiles_W3)
    fields.pages[: len(layout.pages_X)] = layout.pages_X


def _put(room: WordArray, numbers: Ints, padding: int | tuple[int, ...]) -> None:
    room[: len(numbers)] = numbers
    room[len(numbers) :] = padding


def _table(words: Words, num_rows: int, num_fields: int) -> Words:
    return words[: num_rows * num_fields].reshape(num_rows, num_fields)
