"""The whole judgement of an upload's stored files, from first bytes to finite weights."""

from collections.abc import Callable, Sequence
from contextlib import closing
from itertools import filterfalse
from typing import BinaryIO

from services.adapter_store.domain.base_model import BaseModel
from services.adapter_store.domain.version import VersionFile, WeightsSummary
from services.adapter_store.manifest.base_copy import check_base_copy, is_base_copy
from services.adapter_store.manifest.file_list import CONFIG_PATH, WEIGHTS_PATH, check_first_bytes
from services.adapter_store.manifest.peft_config import read_config
from services.adapter_store.manifest.safetensors_header import read_header
from services.adapter_store.manifest.tensor_names import sort_by_site
from services.adapter_store.manifest.weights_check import check_dtypes, check_finite, check_sites


def validate(
    files: Sequence[VersionFile], open_blob: Callable[[str], BinaryIO], base_model: BaseModel
) -> WeightsSummary:
    """What the weights are, if they can be served on `base_model`; memory stays bounded whatever their size.

    `open_blob(sha256)` opens a file's verified bytes. Raises INVALID_ADAPTER, UNSUPPORTED_ADAPTER or
    BASE_MODEL_MISMATCH naming the tensor, config key or file at fault.
    """
    by_path = {file.path: file for file in files}
    for file in files:
        with closing(open_blob(file.sha256)) as opened:
            check_first_bytes(file.path, opened.read(16))
    with closing(open_blob(by_path[CONFIG_PATH].sha256)) as opened:
        config = read_config(opened.read(), base_model)
    weights_file = by_path[WEIGHTS_PATH]
    with closing(open_blob(weights_file.sha256)) as opened:
        tensors = read_header(opened, weights_file.size_bytes)
        check_dtypes(tensors.values())
        for tensor in filter(is_base_copy, tensors.values()):
            check_base_copy(tensor, base_model)
        sites = sort_by_site(filterfalse(is_base_copy, tensors.values()), base_model)
        summary = check_sites(sites, config, base_model)
        check_finite(opened, sorted(tensors.values(), key=lambda tensor: tensor.begin))
    return summary
