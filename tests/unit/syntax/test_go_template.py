from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from service.errors import BadRequest
from service.syntax.go_template import MAX_ACTIONS, MAX_CHARACTERS, render

FIELDS = {"System": "be brief", "Prompt": "hi", "Suffix": ""}
CHATML = (
    "{{ if .System }}<|im_start|>system\n{{ .System }}<|im_end|>\n{{ end }}"
    "<|im_start|>user\n{{ .Prompt }}<|im_end|>\n<|im_start|>assistant\n{{ .Response }}<|im_end|>\n"
)

pieces = st.sampled_from(
    ["{{", "}}", "{{-", "-}}", " ", "\n", "if", "else", "end", ".System", ".Response", ".", "/*", "*/", "$", "x"]
)


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("", ""),
        ("no actions {", "no actions {"),
        ("{{ .Prompt }}", "hi"),
        ("{{.Prompt}}", "hi"),
        ("a {{ .System }} b {{ .Prompt }} c", "a be brief b hi c"),
        ("a{{ .Suffix }}b", "ab"),
        ("{{ if .System }}yes{{ end }}!", "yes!"),
        ("{{ if .Suffix }}yes{{ end }}!", "!"),
        ("{{ if .Suffix }}yes{{ else }}no{{ end }}!", "no!"),
        ("{{ if .System }}a{{ if .Suffix }}b{{ else }}c{{ end }}d{{ else }}e{{ end }}", "acd"),
        ("{{ if .Suffix }}{{ if .System }}a{{ else }}b{{ end }}{{ else }}c{{ end }}", "c"),
        ("{{ .Prompt }} |{{ .Response }}| end", "hi |"),
        ("{{ if .Suffix }}{{ .Response }}{{ end }}a{{ .Prompt }}", "ahi"),
        ("a {{/* {{ a comment */}}b", "a b"),
        ("a \n {{- .Prompt -}} \n b", "ahib"),
        ("a {{- .Prompt }} b", "ahi b"),
        ("a {{ .Prompt -}} b", "a hib"),
        ("a {{- /* a comment */ -}} b", "ab"),
        ("a\n{{- if .System }}\nb\n{{- end }}\nc", "a\nb\nc"),
        ("{{ .Prompt }}}}", "hi}}"),
    ],
)
def test_a_template_gives_the_text_that_go_gives(template: str, text: str):
    assert render(template, FIELDS) == text


def test_a_prompt_ends_where_the_model_goes_on():
    assert render(CHATML, FIELDS) == (
        "<|im_start|>system\nbe brief<|im_end|>\n<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    )


def test_a_field_that_holds_a_template_is_only_text():
    assert render("{{ .Prompt }}", {"Prompt": "{{ .System }}{{ range }}"}) == "{{ .System }}{{ range }}"


@pytest.mark.parametrize(
    "template",
    [
        "{{ range .Messages }}{{ end }}",
        "{{ .Messages }}",
        "{{ Prompt }}",
        "{{ .prompt }}",
        "{{ .Prompt.Text }}",
        "{{ len .Prompt }}",
        "{{ .Prompt | printf }}",
        "{{ $x := .Prompt }}",
        '{{ "text" }}',
        "{{ if not .System }}a{{ end }}",
        "{{ if and .System .Prompt }}a{{ end }}",
        "{{ if .System }}a{{ else if .Prompt }}b{{ end }}",
        "{{ if }}a{{ end }}",
        "{{ if .System }}a",
        "{{ if .System }}a{{ else }}b",
        "{{ if .System }}a{{ else }}b{{ else }}c{{ end }}",
        "{{ end }}",
        "{{ else }}",
        "{{ if .Suffix }}{{ range .Messages }}{{ end }}{{ end }}",
        "{{}}",
        "a {{ .Prompt",
        "a {{ .Prompt }",
    ],
)
def test_what_is_not_of_the_simple_kind_or_broken_is_refused(template: str):
    with pytest.raises(BadRequest, match=r"^template: "):
        render(template, FIELDS)


@given(st.text() | st.lists(pieces).map("".join) | st.lists(pieces).map("{{{{ {} }}}}".format))
@example("{{\n\n}}")
@example("{{ . }}")
def test_every_text_is_a_prompt_or_a_bad_request(template: str):
    with suppress(BadRequest):
        assert isinstance(render(template, FIELDS), str)


@pytest.mark.timeout(10)
@pytest.mark.parametrize("template", ["{{" + " " * 50_000, "{{" * 900, "{{ " * 900, "{{-\n" * 900])
def test_a_long_template_that_is_broken_is_read_all_the_same(template: str):
    # A search that goes back over the blanks would take hours here, and the engine serves nobody meanwhile.
    with pytest.raises(BadRequest):
        render(template, FIELDS)


@pytest.mark.parametrize(
    ("template", "bound"),
    [("a" * (MAX_CHARACTERS + 1), MAX_CHARACTERS), ("{{.Prompt}}" * (MAX_ACTIONS + 1), MAX_ACTIONS)],
)
def test_a_template_that_takes_long_is_refused_by_its_length(template: str, bound: int):
    with pytest.raises(BadRequest, match=f"and may have {bound}$"):
        render(template, FIELDS)
