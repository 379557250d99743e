"""What xgrammar makes of clients' constraints. Needs vLLM's classes and the demo's tokenizer, but no engine."""

from __future__ import annotations

import json
from typing import Any

import pytest
from vllm import SamplingParams
from vllm.sampling_params import StructuredOutputsParams

from service.engine.vllm.grammar_text import DIGITS
from service.engine.vllm.grammars import WHITE_SPACE, CheckedSamplingParams, Grammars
from service.engine.vllm.parsers import Parsers
from service.errors import BadRequest
from service.models.parser_names import ParserNames
from service.protocol.request import Chat, Constraint, Message
from tests.support.asking import ADD
from tests.support.grammar_matching import accepts, tokenizer
from tests.support.schemas import SCHEMAS

STRING = {"type": "string"}
FLAG = {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}
REGEX_TAG = '{"type": "structural_tag", "format": {"type": "regex", "pattern": "a"}}'
GRAMMARS = Grammars("auto")


@pytest.mark.parametrize("shape", [FLAG, {"type": "object"}, "json"])
def test_white_space_is_bounded(shape: Any):
    constraint = GRAMMARS.constraint(shape, None)
    assert accepts(constraint, '{"a": true}')
    assert accepts(constraint, '{\n    "a": true\n}')
    assert accepts(constraint, '{"a":' + " " * WHITE_SPACE + "true}")
    assert not accepts(constraint, '{"a":' + " " * (WHITE_SPACE + 1) + "true}")


@pytest.mark.parametrize("schema", [{"type": "integer"}, {"type": "number"}, {"type": "integer", "minimum": 1}, {}])
def test_the_digits_of_a_number_are_bounded(schema: dict[str, Any]):
    constraint = GRAMMARS.constraint(schema, None)
    assert accepts(constraint, "9" * (DIGITS - 1))
    assert not accepts(constraint, "9" * (DIGITS + 1))


@pytest.mark.parametrize("number", ["1.5", "-0.25", "1e10", "6.02E+23"])
def test_numbers_have_fractions_and_exponents(number: str):
    assert accepts(GRAMMARS.constraint({"type": "number"}, None), number)


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_schema_takes_what_fits_it_and_nothing_else(name: str):
    schema, *examples = SCHEMAS[name]
    constraint = GRAMMARS.constraint(schema, None)
    for example in examples:
        assert accepts(constraint, json.dumps(example, ensure_ascii=False)), example
    if schema:
        assert not accepts(constraint, "no JSON")


@pytest.mark.parametrize(
    ("schema", "fitting", "others"),
    [
        ({"type": "array", "maxItems": 2}, ["[]", "[1]", '["a", null]'], ["[1, 2, 3]"]),
        ({"type": "array", "minItems": 2}, ["[1, 2]", "[1, 2, 3]"], ["[]", "[1]"]),
        ({"type": "array", "prefixItems": [STRING, STRING], "maxItems": 1}, ["[]", '["a"]'], ['["a", "b"]', "[1]"]),
        ({"type": "array", "prefixItems": [STRING], "minItems": 2}, ['["a", 1]'], ['["a"]', "[1, 1]"]),
        ({"type": "object", "maxProperties": 1}, ["{}", '{"a": 1}'], ['{"a": 1, "b": 1}']),
        ({"type": "object", "minProperties": 1}, ['{"a": 1}', '{"a": 1, "b": 1}'], ["{}"]),
        ({"type": "string", "enum": ["a", 5]}, ['"a"'], ["5"]),
    ],
)
def test_what_a_schema_says_nothing_of_is_allowed_beside_a_size(
    schema: dict[str, Any], fitting: list[str], others: list[str]
):
    constraint = GRAMMARS.constraint(schema, None)
    assert [text for text in fitting if not accepts(constraint, text)] == []
    assert [text for text in others if accepts(constraint, text)] == []


@pytest.mark.parametrize(
    ("schema", "complaint"),
    [
        ({"type": "string", "pattern": r"^\p{L}{2}$"}, "#/pattern: can't be compiled: \\p is not supported"),
        ({"items": {"type": "string", "pattern": "["}}, "#/items/pattern: can't be compiled"),
        ({"type": "nonsense"}, '#: Unsupported type "nonsense"'),
        ({"enum": []}, "#: enum array must not be empty"),
        ({"properties": 5}, "#: properties must be an object"),
        ({"properties": {"a": {"items": {"type": "int"}}}}, '#/properties/a/items: Unsupported type "int"'),
        ({"properties": {"a": 5}}, "#/properties/a: Schema should be an object or bool"),
        ({"oneOf": [STRING, {"enum": []}]}, "#/oneOf/1: enum array must not be empty"),
        ({"allOf": [{"type": "object"}, {"properties": {"a": {"type": "x"}}}]}, "#/allOf/1/properties/a: Unsupported"),
        ({"$defs": {"A": {"enum": []}}, "items": {"$ref": "#/$defs/A"}}, "#/$defs/A: enum array must not be empty"),
        ({"$defs": {"A": STRING}, "anyOf": [{"$ref": "#/$defs/A"}, {"type": "x"}]}, "#/anyOf/1: Unsupported type"),
    ],
)
def test_what_can_not_be_compiled_is_refused_with_its_keyword_and_place(schema: dict[str, Any], complaint: str):
    with pytest.raises(BadRequest) as refused:
        GRAMMARS.constraint(schema, None)
    assert refused.value.message.startswith("invalid JSON schema: ")
    assert complaint in refused.value.message
    assert "/project/" not in refused.value.message


@pytest.mark.parametrize(
    ("constraint", "fits", "other"),
    [
        (Constraint(regex="a+b"), "aab", "b"),
        (Constraint(choice=["yes", 'no "really"\n']), 'no "really"\n', "perhaps"),
        (Constraint(grammar='root ::= "a" | "b"'), "b", "c"),
        (Constraint(grammar='start: "a" | "b"'), "b", "c"),
        (
            Constraint(structural_tag='{"type": "structural_tag", "format": {"type": "regex", "pattern": "a"}}'),
            "a",
            "b",
        ),
        (
            Constraint(
                structural_tag=json.dumps(
                    {"structures": [{"begin": "<f>", "schema": FLAG, "end": "</f>"}], "triggers": ["<f>"]}
                )
            ),
            'Well, <f>{"a": true}</f>',
            "<f>no</f>",
        ),
    ],
)
def test_vllms_other_constraints_are_kept_to(constraint: Constraint, fits: str, other: str):
    made = GRAMMARS.constraint(None, constraint)
    assert (accepts(made, fits), accepts(made, other)) == (True, False)


@pytest.mark.parametrize(
    "constraint",
    [
        Constraint(regex="["),
        Constraint(regex="(a{1,99}){1,99}"),
        Constraint(regex="a{1,129}"),
        Constraint(grammar="root ::="),
        Constraint(grammar="a" * 20_001),
        Constraint(structural_tag="{"),
        Constraint(structural_tag='{"structures": [5], "triggers": []}'),
        Constraint(choice=["x" * 20_000]),
    ],
)
def test_a_constraint_that_is_none_is_refused(constraint: Constraint):
    with pytest.raises(BadRequest):
        GRAMMARS.constraint(None, constraint)


def test_a_checked_constraint_is_not_checked_again_and_others_are():
    checked = GRAMMARS.parameters(GRAMMARS.constraint(FLAG, None), max_tokens=5)
    checked._validate_structured_outputs(None, None, None)
    assert isinstance(checked, CheckedSamplingParams)
    assert checked.structured_outputs._backend == "xgrammar"
    assert type(GRAMMARS.parameters(StructuredOutputsParams(grammar="x"))) is SamplingParams
    assert type(GRAMMARS.parameters(None)) is SamplingParams


def test_another_backend_gets_the_schema_itself():
    guidance = Grammars("guidance")
    assert guidance.constraint(FLAG, None).json == FLAG
    assert guidance.constraint(None, Constraint(regex="a")).regex == "a"
    assert type(guidance.parameters(guidance.constraint(FLAG, None))) is SamplingParams


# --- with tools -------------------------------------------------------------------------------------------

CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 1, "b": 2}}\n</tool_call>'


def with_tools(constraint: Any = None, tool: Any = ADD, *more: Any, **choice: Any) -> Any:
    parsers = Parsers(ParserNames("hermes", "qwen3"), tokenizer(), None, GRAMMARS)
    parser = parsers.parser(Chat([Message("user", "?")], [tool, *more], **choice), False, constraint)
    assert parser is not None
    return parser.constraint


def test_with_a_schema_and_tools_an_answer_is_a_call_or_fits_the_schema():
    constraint = with_tools(GRAMMARS.constraint(FLAG, None))
    assert accepts(constraint, CALL)
    assert accepts(constraint, '{"a": true}')
    assert not accepts(constraint, "neither")


@pytest.mark.parametrize("choice", [{"tool_choice": "required"}, {"forced_tool": "add"}])
def test_an_answer_that_must_be_a_call_is_one_with_bounded_white_space(choice: dict[str, Any]):
    constraint = with_tools(**choice)
    assert accepts(constraint, CALL)
    assert not accepts(constraint, "no call")
    assert not accepts(constraint, CALL.replace('"a": 1', '"a":' + " " * 20 + "1"))


@pytest.mark.parametrize("choice", [{"tool_choice": "required"}, {"forced_tool": "add"}])
@pytest.mark.parametrize("arguments", ["5", "[]", '{"a": 1}', '{"a": "1", "b": 2}'])
def test_the_arguments_of_a_call_that_must_be_fit_their_schema(choice: dict[str, Any], arguments: str):
    assert not accepts(with_tools(**choice), CALL.replace('{"a": 1, "b": 2}', arguments))


def test_a_tool_without_parameters_or_with_a_schema_that_has_no_grammar_can_be_called():
    call = '<tool_call>\n{"name": "add", "arguments": %s}\n</tool_call>'
    bare = with_tools(tool={"type": "function", "function": {"name": "add"}}, tool_choice="required")
    assert (accepts(bare, call % "{}"), accepts(bare, call % "5")) == (True, False)
    letter = {"type": "object", "properties": {"s": {"type": "string", "pattern": r"^\p{L}$"}}}
    tool = {"type": "function", "function": {"name": "add", "parameters": letter}}
    assert accepts(with_tools(tool=tool, tool_choice="required"), call % '{"s": "a"}')


@pytest.mark.parametrize("choice", [{"tool_choice": "required"}, {"forced_tool": "letter"}])
def test_a_tool_whose_schema_has_no_grammar_is_called_with_an_object_and_frees_no_other(choice: dict[str, Any]):
    letter = {"type": "object", "properties": {"s": {"type": "string", "pattern": r"^\p{L}$"}}}
    tool = {"type": "function", "function": {"name": "letter", "parameters": letter}}
    constraint = with_tools(None, tool, ADD, **choice)
    call = '<tool_call>\n{"name": "%s", "arguments": %s}\n</tool_call>'
    taken = [text for text in ('{"s": "a"}', "5", '"a"') if accepts(constraint, call % ("letter", text))]
    assert taken == ['{"s": "a"}']
    assert not accepts(constraint, call % ("add", '{"a": 1}'))


def test_the_name_of_a_tool_in_any_form_is_in_the_refusal_of_its_schema():
    bad = {"type": "object", "properties": {"a": {"type": "int"}}}
    with pytest.raises(BadRequest, match='the parameters of the tool "add"'):
        with_tools(None, {"name": "add", "parameters": bad, "strict": True})


@pytest.mark.parametrize("choice", [{}, {"tool_choice": "required"}])
def test_a_strict_tool_whose_schema_has_no_grammar_is_refused_by_its_name(choice: dict[str, Any]):
    bad = {"type": "object", "properties": {"a": {"type": "int"}}}
    tool = {"type": "function", "function": {"name": "add", "parameters": bad, "strict": True}}
    with pytest.raises(BadRequest) as refused:
        with_tools(tool=tool, **choice)
    place = 'the parameters of the tool "add": invalid JSON schema: #/properties/a: '
    assert refused.value.message == f'{place}Unsupported type "int"'
    assert (refused.value.param, refused.value.code) == ("tools", "invalid_function_parameters")


def test_tools_alone_constrain_nothing():
    assert with_tools() is None


def test_a_tag_that_is_nested_too_deeply_for_vllm_is_refused():
    tag = '{"format": ' + '{"type": "sequence", "elements": [' * 90 + '{"type": "any_text"}' + "]}" * 90 + "}"
    constraint = GRAMMARS.constraint(None, Constraint(structural_tag=tag))
    with pytest.raises(BadRequest, match=r"invalid constraint: .*nested too deeply"):
        with_tools(constraint)
