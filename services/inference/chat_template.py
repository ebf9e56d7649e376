"""Renders chat messages with the model directory's own template, in a sandbox.

Must not know requests or the tokenizer: the rendered text already holds its special tokens.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from services.common.errors import Code, Reason, ServiceError, invalid_field
from services.inference.model_file import broken_model_file, read_model_json

MAX_RENDERED_CHARS = 8 << 20

ChatMessage = Mapping[str, str]


class ChatTemplate:
    """A compiled template. `source` None: the model directory has none, and `render` says so.

    `special_tokens` (bos_token, eos_token, ...) are variables of the template. Raises ServiceError
    if the template is not valid Jinja.
    """

    def __init__(self, source: str | None, special_tokens: Mapping[str, str]) -> None:
        self._special_tokens = dict(special_tokens)
        try:
            self._template = None if source is None else _environment().from_string(source)
        except jinja2.TemplateError as error:
            raise broken_model_file("chat_template", f"is not valid Jinja: {error}") from error

    def render(self, messages: Sequence[ChatMessage]) -> str:
        """The prompt's text, up to where the assistant's turn begins.

        Raises ServiceError: FAILED_PRECONDITION without a template, INVALID_ARGUMENT naming
        `prompt.chat` if the template refuses the messages.
        """
        if self._template is None:
            raise ServiceError(
                Code.FAILED_PRECONDITION,
                Reason.NO_CHAT_TEMPLATE,
                "the model directory has no chat template: send the prompt as text or token_ids",
            )
        try:
            return self._bounded(self._template.generate(self._variables(messages)))
        except ServiceError:
            raise
        except Exception as error:  # the template is a program: anything can come out of it
            raise invalid_field("prompt.chat", f"the model's chat template refused it: {error}") from error

    def _variables(self, messages: Sequence[ChatMessage]) -> dict[str, Any]:
        return {
            "messages": [dict(message) for message in messages],
            "add_generation_prompt": True,
            "tools": None,
            "documents": None,
            **self._special_tokens,
        }

    @staticmethod
    def _bounded(chunks: Any) -> str:
        rendered, num_chars = [], 0
        for chunk in chunks:
            rendered.append(chunk)
            num_chars += len(chunk)
            if num_chars > MAX_RENDERED_CHARS:
                raise invalid_field("prompt.chat", f"renders to more than {MAX_RENDERED_CHARS} characters")
        return "".join(rendered)


def load_chat_template(model_dir: Path) -> ChatTemplate:
    """The template in chat_template.jinja, else in tokenizer_config.json. Raises ServiceError if broken."""
    config = read_model_json(model_dir, "tokenizer_config.json")
    special_tokens = {**_special_tokens(read_model_json(model_dir, "special_tokens_map.json"))}
    special_tokens |= _special_tokens(config)
    return ChatTemplate(_source(model_dir, config), special_tokens)


def _source(model_dir: Path, config: Mapping[str, Any]) -> str | None:
    path = model_dir / "chat_template.jinja"
    if path.is_file():
        try:
            return path.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise broken_model_file(path.name, f"cannot be read in {model_dir}: {error}") from error
    found = config.get("chat_template")
    if isinstance(found, list):
        # Several templates by name; the others serve tools and retrieval.
        found = {entry.get("name"): entry.get("template") for entry in found}.get("default")
    if found is not None and not isinstance(found, str):
        raise broken_model_file(
            "tokenizer_config.json", "chat_template must be a string or a list of named ones"
        )
    return found


def _special_tokens(config: Mapping[str, Any]) -> dict[str, str]:
    tokens = {}
    for name, value in config.items():
        content = value.get("content") if isinstance(value, dict) else value
        if name.endswith("_token") and isinstance(content, str):
            tokens[name] = content
    return tokens


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols, _GenerationTag]
    )
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = lambda pattern: datetime.now().strftime(pattern)
    environment.filters["tojson"] = _to_json
    return environment


class _GenerationTag(jinja2.ext.Extension):
    """`{% generation %}` marks the assistant's words for training; here it is only its body."""

    tags = {"generation"}  # noqa: RUF012 (Jinja's own declaration)

    def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
        """The nodes up to `{% endgeneration %}`."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _to_json(value: Any, ensure_ascii: bool = False, indent: int | None = None, **options: Any) -> str:
    # Jinja's own filter escapes for HTML, which a prompt is not.
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **options)
