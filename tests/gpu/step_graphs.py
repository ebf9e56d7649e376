"""Graphs for the tiny models of the integration tests."""

import torch
from torch import Tensor

from services.inference.layer_gates import LoadGates
from services.inference.model.decode_graph import DecodeGraphs
from services.inference.model.decoder import Decoder
from services.inference.model.graph_capture import CudaCapture
from services.inference.model.last_tokens import LastTokens
from services.inference.model.mixed_graph import MixedGraphs
from services.inference.model.step_limits import StepLimits
from tests.integration.inference.decode_step_checks import MAX_CONTEXT_TOKENS, MAX_ROWS
from tests.integration.inference.paged_decoder import PAGE_TOKENS

MAX_TOKENS = 128
LIMITS = StepLimits(MAX_TOKENS, MAX_ROWS, MAX_CONTEXT_TOKENS, PAGE_TOKENS)


def make_decode_graphs(decoder: Decoder, last_tokens: LastTokens) -> DecodeGraphs:
    """Of steps of up to MAX_ROWS rows."""
    return DecodeGraphs(decoder, last_tokens, CudaCapture(), _logits(decoder), LIMITS)


def make_both_graphs(
    decoder: Decoder, last_tokens: LastTokens, gates: LoadGates
) -> tuple[MixedGraphs, DecodeGraphs]:
    """In one memory pool, as an engine has them."""
    capture, logits_MV = CudaCapture(), _logits(decoder)
    mixed = MixedGraphs(decoder, gates, last_tokens, capture, logits_MV, LIMITS)
    return mixed, DecodeGraphs(decoder, last_tokens, capture, logits_MV, LIMITS)


def _logits(decoder: Decoder) -> Tensor:
    return torch.full((MAX_ROWS, decoder.vocab_size), torch.nan, device="cuda")
