"""What the front end knows of the model it serves: its config, tokenizer, template and names.

Must not know weights, the engine or the wire.
"""

from dataclasses import dataclass

from services.inference.chat_template import ChatTemplate, load_chat_template
from services.inference.model.config import ModelConfig, read_config
from services.inference.settings import Settings
from services.inference.tokenizer import Tokenizer, load_tokenizer


@dataclass(frozen=True, slots=True)
class ServedModel:
    """One base model, read from its directory; `name` is what it registers as."""

    name: str
    config: ModelConfig
    tokenizer: Tokenizer
    chat_template: ChatTemplate
    dtype: str
    device: str
    max_rank: int

    @property
    def target_modules(self) -> tuple[str, ...]:
        """The names that an adapter's `target_modules` may use."""
        modules = (*self.config.layer_modules(), *self.config.model_modules())
        return tuple(module.name.rpartition(".")[2] for module in modules)


def read_served_model(settings: Settings) -> ServedModel:
    """Reads all but the weights. Raises ServiceError naming the file or key that is missing or wrong."""
    return ServedModel(
        name=settings.base_model_name,
        config=read_config(settings.model),
        tokenizer=load_tokenizer(settings.model),
        chat_template=load_chat_template(settings.model),
        dtype=settings.dtype_name,
        device=settings.device,
        max_rank=settings.max_rank,
    )
