"""A Llama-shaped decoder over paged keys and values: Batch in, logits out.

Legend: E elements of the pool, T tokens of the step, M rows that need logits, H hidden, V vocabulary.
Must not know requests, sampling or who owns a page.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from kernels.lora_site import LoraSite
from kernels.sgmv import Sgmv
from services.inference.batch import Batch
from services.inference.model.attention import Attention
from services.inference.model.config import ModelConfig
from services.inference.model.kv_pages import KvPages
from services.inference.model.layer import DecoderLayer
from services.inference.model.linear import LoraLinear
from services.inference.model.rope import Rope
from services.inference.model.sites import lora_sites
from services.inference.model.torch_attention import TorchAttention
from services.inference.model.weights import Weights

SITES_A_LAYER = 7


class Decoder:
    """The base model with LoRA deltas by `sgmv` and keys and values in the pool.

    With tied embeddings, embed_tokens and lm_head share the base weight but stay two sites: a delta
    at one does not touch the other, as in PEFT.
    """

    def __init__(
        self, config: ModelConfig, weights: Weights, pool_E: Tensor, page_tokens: int, sgmv: Sgmv
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
        self._rope = Rope(config.rope, config.head_dim, embed_VH.dtype, embed_VH.device)
        self._attention: Attention = TorchAttention(config, KvPages(pool_E, config, page_tokens))
        self._layers = tuple(
            DecoderLayer(index, config, layer, self._layer_sites(index), sgmv)
            for index, layer in enumerate(weights.layers)
        )

    @torch.inference_mode()
    def forward(self, batch: Batch) -> Tensor:
        """Logits [M, V] in float32 of `batch.sample_rows_M`.

        Mutates the pool: writes every row's key and value to its slot.
        """
        segments = batch.token_segments if batch.token_segments.has_adapters else None
        hidden_TH = F.embedding(batch.token_ids_T, self._weights.embed_VH)
        if segments is not None:
            self._sgmv.add_embedding_(hidden_TH, batch.token_ids_T, self._embed_site, segments)
        rotation = self._rope.rotation(batch.positions_T)
        attention = self._attention.begin(batch)
        for layer in self._layers:
            layer.forward_(hidden_TH, rotation, attention, segments)
        return self._logits(hidden_TH, batch)

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

    def _logits(self, hidden_TH: Tensor, batch: Batch) -> Tensor:
        segments = batch.sample_segments if batch.sample_segments.has_adapters else None
        sampled_MH = hidden_TH.index_select(0, batch.sample_rows_M)
        norm_H = self._weights.norm_H
        normed_MH = F.rms_norm(sampled_MH, norm_H.shape, norm_H, self._config.norm_eps)
        return self._lm_head(normed_MH, segments).float()
