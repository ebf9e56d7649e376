"""A base model as the store sees it: what uploads are checked against."""

from dataclasses import dataclass

from services.adapter_store.domain.fields import check_range, check_sha256, check_text
from services.common.errors import invalid_field

MAX_NAME_CHARS = 256
MAX_MODULES = 1024
MAX_FEATURES = 1 << 24
MAX_LAYERS = 4096
MAX_RANK = 4096


@dataclass(frozen=True, slots=True)
class Module:
    """One linear or embedding module. `name` is its path below a layer, or `embed_tokens` or `lm_head`.

    An embedding has in_features = vocabulary size and out_features = hidden size.
    """

    name: str
    in_features: int
    out_features: int


@dataclass(frozen=True, slots=True)
class BaseModel:
    """A registered base model; `digest` is a sha256 in hex over its config and weights."""

    name: str
    digest: str
    architecture: str
    hidden_size: int
    num_layers: int
    modules: tuple[Module, ...]
    max_rank: int

    @property
    def last_component(self) -> str:
        """The name without owner or directories: what an adapter's config is compared with."""
        return last_component(self.name)


def last_component(name: str) -> str:
    """`meta-llama/Llama-3.1-8B/` to `Llama-3.1-8B`."""
    return name.replace("\\", "/").rstrip("/").rpartition("/")[2]


def check_base_model(model: BaseModel) -> BaseModel:
    """`model` if every field makes sense. Raises INVALID_FIELD naming the first that does not."""
    check_text(model.name, "base_model.base_model", max_chars=MAX_NAME_CHARS, required=True)
    check_sha256(model.digest, "base_model.digest")
    check_text(model.architecture, "base_model.architecture", max_chars=128, required=True)
    check_range(model.hidden_size, "base_model.hidden_size", low=1, high=MAX_FEATURES)
    check_range(model.num_layers, "base_model.num_layers", low=1, high=MAX_LAYERS)
    check_range(model.max_rank, "base_model.max_rank", low=1, high=MAX_RANK)
    if not 1 <= len(model.modules) <= MAX_MODULES:
        raise invalid_field(
            "base_model.modules", f"has {len(model.modules)} entries: give 1 to {MAX_MODULES}"
        )
    for index, module in enumerate(model.modules):
        field = f"base_model.modules[{index}]"
        check_text(module.name, f"{field}.name", max_chars=128, required=True)
        check_range(module.in_features, f"{field}.in_features", low=1, high=MAX_FEATURES)
        check_range(module.out_features, f"{field}.out_features", low=1, high=MAX_FEATURES)
    names = [module.name for module in model.modules]
    if len(set(names)) != len(names):
        raise invalid_field("base_model.modules", "names a module twice: name each once")
    return model
