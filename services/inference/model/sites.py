"""The LoRA sites of a decoder, in the order of their index.

Must not know weights or batches.
"""

from kernels.lora_site import LoraSite
from services.inference.model.config import ModelConfig

EMBED_TOKENS = "embed_tokens"
LM_HEAD = "lm_head"
SITES_A_LAYER = 7


def site_layers(config: ModelConfig) -> tuple[int, ...]:
    """The layer of each of `lora_sites`: 0 for embed_tokens, the number of layers for lm_head."""
    return tuple(0 if site.is_embedding else site.index // SITES_A_LAYER for site in lora_sites(config))


def lora_sites(config: ModelConfig) -> tuple[LoraSite, ...]:
    """Layer by layer q, k, v, o, gate, up, down; then embed_tokens and lm_head.

    A site's name is its module's path in the checkpoint without the leading "model.".
    """
    names_and_modules = [
        (f"layers.{layer}.{module.name}", module)
        for layer in range(config.num_layers)
        for module in config.layer_modules()
    ]
    names_and_modules += [(module.name, module) for module in config.model_modules()]
    return tuple(
        LoraSite(index, name, module.in_features, module.out_features, is_embedding=name == EMBED_TOKENS)
        for index, (name, module) in enumerate(names_and_modules)
    )
