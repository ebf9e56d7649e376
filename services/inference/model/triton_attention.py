"""Attention by Triton kernels that read and write pages in place.

Legend: T tokens of the step, N sequences, X q|k|v side by side, W query tiles, D head dim. Must not
know projections or LoRA.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from kernels.decode_attention import KeyShares, attend_shares, decode_attention
from kernels.host_copies import to_device
from kernels.paged_kv import PagedKv
from kernels.prefill_attention import prefill_attention, query_tiles, tile_tokens
from kernels.rope_expand import HeadTurn
from kernels.rope_kv_write import rope_kv_write
from services.inference.batch import Batch
from services.inference.model.config import ModelConfig
from services.inference.model.head_norms import HeadNorms
from services.inference.model.rope import Rope, Rotation


@dataclass(frozen=True, slots=True)
class DecodeReads:
    """One row a sequence: row n has context_lens_N[n] keys, in pages from first_pages_N[n] on.

    0 keys is a padding row, whose output is 0.
    """

    context_lens_N: Tensor
    first_pages_N: Tensor


@dataclass(frozen=True, slots=True)
class ChunkReads:
    """Chunks of sequences: the `query_tiles` of the step; one of no rows is padding."""

    tiles_W4: Tensor


class TritonAttention:
    """`Attention` on a CUDA device; `norms` by layer. `rope` is in float32 whatever the model's dtype."""

    def __init__(
        self, config: ModelConfig, rope: Rope, norms: Sequence[HeadNorms | None], kv: PagedKv
    ) -> None:
        self._config = config
        self._rope = rope
        self._norms = norms
        self._kv = kv

    @property
    def query_tile_rows(self) -> int:
        """The most rows of a tile of ChunkReads."""
        return tile_tokens(self._config.num_heads // self._config.num_kv_heads)

    def begin(self, batch: Batch) -> "TritonAttentionStep":
        """As Attention.begin; mutates no page."""
        num_sequences, width = batch.page_table_NP.shape
        first_pages = range(0, num_sequences * width, max(1, width))
        device = self._kv.pool_E.device
        reads: DecodeReads | ChunkReads
        if all(stop - start == 1 for start, stop in pairwise(batch.query_starts)):
            both_2N = to_device([batch.context_lens, first_pages], torch.int32, device)
            reads = DecodeReads(both_2N[0], both_2N[1])
        else:
            starts, lens = batch.query_starts, batch.context_lens
            tiles = query_tiles(starts, lens, first_pages, self.query_tile_rows)
            reads = ChunkReads(to_device(tiles, torch.int32, device))
        return self.step(batch.positions_T, batch.kv_slots_T, batch.page_table_NP, reads)

    def step(
        self, positions_T: Tensor, slots_T: Tensor, pages: Tensor, reads: DecodeReads | ChunkReads
    ) -> "TritonAttentionStep":
        """A step whose layout lies in device memory: `pages` is contiguous, a slot below 0 is not written.

        Everything is int32 or int64.
        """
        rotation = self._rope.rotation(positions_T)
        return TritonAttentionStep(self._config, self._norms, self._kv, rotation, slots_T, pages, reads)


class TritonAttentionStep:
    """TritonAttention of one batch."""

    def __init__(
        self,
        config: ModelConfig,
        norms: Sequence[HeadNorms | None],
        kv: PagedKv,
        rotation: Rotation,
        slots_T: Tensor,
        pages: Tensor,
        reads: DecodeReads | ChunkReads,
    ) -> None:
        self._config = config
        self._norms = norms
        self._kv = kv
        self._rotation = rotation
        self._slots_T = slots_T
        self._pages = pages
        self._reads = reads

    def attend(self, layer: int, qkv_TX: Tensor) -> Tensor:
        """As AttentionStep.attend."""
        turn = self.head_turn(layer)
        query_TQD = rope_kv_write(
            qkv_TX, turn.cos_TD, turn.sin_TD, turn.slots_T, turn.kv, layer, turn.norms, turn.eps
        )
        return self.read(layer, query_TQD)

    def head_turn(self, layer: int) -> HeadTurn:
        """How the layer's heads are normed and turned, and where keys and values go."""
        norms = self._norms[layer]
        return HeadTurn(
            cos_TD=self._rotation.cos_T1D,
            sin_TD=self._rotation.sin_T1D,
            slots_T=self._slots_T,
            kv=self._kv,
            layer=layer,
            norms=None if norms is None else (norms.query_D, norms.key_D),
            eps=self._config.norm_eps,
        )

    def read(self, layer: int, query_TQD: Tensor) -> Tensor:
        """Attention [T, Q * D] of turned queries to keys and values that are in their pages."""
        window, reads = self._config.window_tokens(layer), self._reads
        if isinstance(reads, ChunkReads):
            return prefill_attention(query_TQD, self._kv, layer, reads.tiles_W4, self._pages, window)
        return decode_attention(
            query_TQD, self._kv, layer, reads.context_lens_N, reads.first_pages_N, self._pages, window
        )

    def read_shares(self, layer: int, query_TQD: Tensor, *, uses_pdl: bool) -> KeyShares | None:
        """The same by shares of the keys, not put together; None for chunks, which are not cut so."""
        window, reads = self._config.window_tokens(layer), self._reads
        if isinstance(reads, ChunkReads):
            return None
        return attend_shares(
            query_TQD,
            self._kv,
            layer,
            reads.context_lens_N,
            reads.first_pages_N,
            self._pages,
            window,
            uses_pdl=uses_pdl,
        )
