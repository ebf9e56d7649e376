"""ChatTemplate: Transformers' conventions, in a sandbox."""

import json

import pytest

from services.common.errors import Code, Reason, ServiceError
from services.inference import chat_template
from services.inference.chat_template import ChatTemplate, load_chat_template

MESSAGES = [{"role": "system", "content": "Be <kind> & brief."}, {"role": "user", "content": "Hi é"}]
LLAMA_LIKE = """{{- bos_token }}
{%- for message in messages %}
    {%- if message.role == 'tool' %}{% continue %}{% endif %}
    {{- '<|' + message['role'] + '|>' }}
    {% generation %}
    {{- message['content'] | trim + eos_token }}
    {% endgeneration %}
{%- endfor %}
{% if add_generation_prompt %}
<|assistant|>
{% endif %}"""


def render(source: str, messages=MESSAGES, **special_tokens: str) -> str:
    return ChatTemplate(source, special_tokens).render(messages)


def test_the_usual_template_renders_as_transformers_does():
    from transformers.utils.chat_template_utils import render_jinja_template

    tokens = {"bos_token": "<s>", "eos_token": "</s>"}
    (expected,), _ = render_jinja_template(
        [MESSAGES], chat_template=LLAMA_LIKE, add_generation_prompt=True, **tokens
    )
    assert render(LLAMA_LIKE, **tokens) == expected
    assert expected.startswith("<s><|system|>")


def test_tojson_does_not_escape():
    assert render("{{ messages | tojson }}") == json.dumps(MESSAGES, ensure_ascii=False)


def test_strftime_now_is_there():
    assert render("{{ strftime_now('%Y') }}").isdigit()


@pytest.mark.parametrize(
    "source",
    [
        "{{ raise_exception('roles must alternate') }}",
        "{{ messages[7].content + 1 }}",
        "{{ messages.append(1) }}",
        "{{ ''.__class__.__mro__ }}{{ ''.__class__.__mro__[1].__subclasses__() }}",
    ],
)
def test_what_a_template_refuses_is_the_callers_to_mend(source):
    with pytest.raises(ServiceError) as raised:
        render(source)
    assert (raised.value.code, raised.value.field) == (Code.INVALID_ARGUMENT, "prompt.chat")


def test_the_templates_own_words_reach_the_caller():
    with pytest.raises(ServiceError, match="roles must alternate"):
        render("{{ raise_exception('roles must alternate') }}")


def test_an_endless_rendering_is_cut_off(monkeypatch):
    monkeypatch.setattr(chat_template, "MAX_RENDERED_CHARS", 1000)
    with pytest.raises(ServiceError, match="more than 1000 characters"):
        render("{% for i in range(10000) %}{{ messages[0].content }}{% endfor %}")


def test_no_template_is_said():
    with pytest.raises(ServiceError) as raised:
        ChatTemplate(None, {}).render(MESSAGES)
    assert (raised.value.code, raised.value.reason) == (Code.FAILED_PRECONDITION, Reason.NO_CHAT_TEMPLATE)


@pytest.mark.parametrize(
    ("config", "jinja", "expected"),
    [
        ({"chat_template": "a{{ bos_token }}", "bos_token": {"content": "<s>"}}, None, "a<s>"),
        ({"chat_template": "a", "bos_token": "<s>"}, "b{{ bos_token }}", "b<s>"),
        (
            {"chat_template": [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]},
            None,
            "d",
        ),
    ],
)
def test_where_the_template_comes_from(tmp_path, config, jinja, expected):
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    if jinja is not None:
        (tmp_path / "chat_template.jinja").write_text(jinja)
    assert load_chat_template(tmp_path).render(MESSAGES) == expected


def test_special_tokens_may_stand_in_their_own_file(tmp_path):
    (tmp_path / "special_tokens_map.json").write_text('{"eos_token": {"content": "</s>"}}')
    (tmp_path / "chat_template.jinja").write_text("{{ eos_token }}")
    assert load_chat_template(tmp_path).render(MESSAGES) == "</s>"


def test_an_empty_directory_has_no_template(tmp_path):
    with pytest.raises(ServiceError) as raised:
        load_chat_template(tmp_path).render(MESSAGES)
    assert raised.value.reason == Reason.NO_CHAT_TEMPLATE


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("chat_template.jinja", "{% if %}"),
        ("tokenizer_config.json", "{"),
        ("tokenizer_config.json", "[]"),
        ("tokenizer_config.json", '{"chat_template": 3}'),
    ],
)
def test_a_broken_file_keeps_the_service_from_starting(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    with pytest.raises(ServiceError, match=r"chat_template|tokenizer_config"):
        load_chat_template(tmp_path)
