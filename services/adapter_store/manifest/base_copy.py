"""Copies of the base model's own embeddings, which PEFT saves along when LoRA targets one of them.

Only their names, shapes and dtypes can be checked here, where no base weights are: inference
compares the values, and refuses an adapter whose copy differs.
"""

import re

from services.adapter_store.domain.base_model import BaseModel
from services.adapter_store.manifest.refusals import mismatch
from services.adapter_store.manifest.safetensors_header import TensorEntry

_BASE_COPY = re.compile(
    r"base_model\.model\.(?:model\.)?(?P<module>embed_tokens|lm_head)\.(?:base_layer\.)?weight"
)


def is_base_copy(tensor: TensorEntry) -> bool:
    """Whether `tensor` is named as such a copy."""
    return _BASE_COPY.fullmatch(tensor.name) is not None


def check_base_copy(tensor: TensorEntry, base_model: BaseModel) -> None:
    """Raises BASE_MODEL_MISMATCH unless `tensor` has the shape [vocabulary, hidden] of the base's own."""
    found = _BASE_COPY.fullmatch(tensor.name)
    assert found is not None, "ask is_base_copy first"
    modules = {module.name: module for module in base_model.modules}
    module = modules.get(found["module"])
    expected = () if module is None else (module.in_features, module.out_features)
    if found["module"] == "lm_head":
        expected = expected[::-1]
    if tensor.shape != expected:
        raise mismatch(
            tensor.name,
            f"shape {list(tensor.shape)} is not that of {base_model.name}, {list(expected)}: an adapter with "
            "a vocabulary of its own is not served; train without resizing the embeddings",
        )
