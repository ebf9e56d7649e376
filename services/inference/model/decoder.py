"""A Llama-shaped decoder over paged keys and values: Batch in, logits out.

Legend: E elements of the pool, T tokens of the step, M rows that need logits, H hidden, V vocabulary.
Must not know requests, sampling or who owns a page.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from kernels.lora_site import LoraSite
from kernels.segments import Segments
from kernels.sgmv import Sgmv
from services.inference.batch import Batch
from services.inference.layer_gates import OPEN_GATES, LayerGates
from services.inference.model.attention import Attention, AttentionStep
from services.inference.model.choose import make_attention, make_pointwise
from services.inference.model.config import ModelConfig
from services.inference.model.fused_layers import FusedLayers
from services.inference.model.layer import DecoderLayer
from services.inference.model.linear import LoraLinear
from services.inference.model.sites import SITES_A_LAYER, lora_sites
from services.inference.model.weights import Weights


class Decoder:
    """The base model with LoRA deltas by `sgmv` and keys and values in the pool.

    With tied embeddings, embed_tokens and lm_head share the base weight but stay two sites: a delta
    at one does not touch the other, as in PEFT. Steps with adapters run through `fused` layers where
    there are some; `attention` None is what fits the device.
    """

    def __init__(
        self,
        config: ModelConfig,
        weights: Weights,
        pool_E: Tensor,
        page_tokens: int,
        sgmv: Sgmv,
        *,
        fused: FusedLayers | None = None,
        attention: Attention | None = None,
    ) -> None:
        embed_VH = weights.embed_VH
        if pool_E.dtype != embed_VH.dtype or pool_E.device != embed_VH.device:
            raise ValueError(
                f"a pool of {pool_E.dtype} on {pool_E.device} does not fit weights of "
                f"{embed_VH.dtype} on {embed_VH.device}"
            )
        self._config = config
        self._weights = weights
        self._sgmv = sgmv
        self._sites = lora_sites(config)
        self._embed_site = self._sites[-2]
        self._lm_head = LoraLinear(weights.lm_head_VH, None, self._sites[-1:], sgmv)
        self._attention = attention or make_attention(config, weights, pool_E, page_tokens)
        self._fused = fused
        self._pointwise = make_pointwise(pool_E)
        self._layers = tuple(
            DecoderLayer(index, config, layer, self._layer_sites(index), sgmv, self._pointwise)
            for index, layer in enumerate(weights.layers)
        )

    @torch.inference_mode()
    def forward(self, batch: Batch, gates: LayerGates = OPEN_GATES) -> Tensor:
        """Logits [M, V] in float32 of `batch.sample_rows_M`; passes `gates` on its way.

        Mutates the pool: writes every row's key and value to its slot.
        """
        attention = self._attention.begin(batch)
        tokens, wanted = batch.token_segments, batch.sample_segments
        return self.chunks(
            batch.token_ids_T,
            attention,
            batch.sample_rows_M,
            tokens if tokens.has_adapters else None,
            wanted if wanted.has_adapters else None,
            gates,
        ).float()

    def chunks(
        self,
        token_ids_T: Tensor,
        attention: AttentionStep,
        wanted_rows_M: Tensor,
        segments: Segments | None,
        wanted_segments: Segments | None,
        gates: LayerGates,
    ) -> Tensor:
        """Logits [M, V], in the model's dtype, of the rows wanted_rows_M of chunks of sequences.

        Launches depend on shapes alone. `segments` None means that every row is a base row;
        `wanted_segments` are of the M rows. Passes `gates` and mutates the pool as `forward` does.
        """
        hidden_TH, delta_TH = self._layers_output(token_ids_T, attention, segments, gates)
        wanted_MH = hidden_TH.index_select(0, wanted_rows_M)
        left_MH = None if delta_TH is None else delta_TH.index_select(0, wanted_rows_M)
        gates.wait(self._config.num_layers)
        return self._logits(wanted_MH, left_MH, wanted_segments)

    def decode(self, token_ids_T: Tensor, attention: AttentionStep, segments: Segments | None) -> Tensor:
        """Logits [T, V], in the model's dtype, of rows that are one new token each of a sequence.

        Launches depend on shapes alone. `segments` None means that every row is a base row. Mutates
        the pool as `forward` does. Waits for no load: adapters must be in the pool.
        """
        hidden_TH, delta_TH = self._layers_output(token_ids_T, attention, segments, OPEN_GATES)
        return self._logits(hidden_TH, delta_TH, segments)

    @property
    def attention(self) -> Attention:
        """Who attends."""
        return self._attention

    @property
    def sgmv(self) -> Sgmv:
        """Who adds LoRA deltas."""
        return self._sgmv

    @property
    def vocab_size(self) -> int:
        """Width of the logits."""
        return self._config.vocab_size

    def site_weight(self, site: LoraSite) -> Tensor:
        """A view [out_features, in_features] of the base weight at `site`."""
        if site.is_embedding:
            return self._weights.embed_VH.T
        if site.index == self._sites[-1].index:
            return self._weights.lm_head_VH
        layer, position = divmod(site.index, SITES_A_LAYER)
        weights = self._weights.layers[layer]
        q_k_v = weights.qkv_OI.split_with_sizes(
            [self._config.q_size, self._config.kv_size, self._config.kv_size]
        )
        return (*q_k_v, weights.o_OI, *weights.gate_up_OI.chunk(2), weights.down_OI)[position]

    def _layer_sites(self, layer: int) -> tuple[LoraSite, ...]:
        return self._sites[layer * SITES_A_LAYER : (layer + 1) * SITES_A_LAYER]

    def _layers_output(
        self, token_ids_T: Tensor, attention: AttentionStep, segments: Segments | None, gates: LayerGates
    ) -> tuple[Tensor, Tensor | None]:
        """The residual stream, and what the last layer left to be added to it, if anything."""
        hidden_TH = F.embedding(token_ids_T, self._weights.embed_VH)
        gates.wait(0)
        if segments is not None:
            self._sgmv.add_embedding_(hidden_TH, token_ids_T, self._embed_site, segments)
        if segments is not None and self._fused is not None:
            self._fused.forward_(hidden_TH, attention, segments, gates)
            return hidden_TH, None
        delta_TH: Tensor | None = None
        for index, layer in enumerate(self._layers):
            if index:
                gates.wait(index)
            delta_TH = layer.forward_(hidden_TH, delta_TH, attention, segments)
        return hidden_TH, delta_TH

    def _logits(self, hidden_MH: Tensor, delta_MH: Tensor | None, segments: Segments | None) -> Tensor:
        norm_H, eps = self._weights.norm_H, self._config.norm_eps
        return self._lm_head(self._pointwise.add_norm_(hidden_MH, delta_MH, norm_H, eps), segments)
