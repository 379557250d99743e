"""Our errors by the rules of programs that read them: to shorten a conversation, to try again, or to give up.

Each rule was read in the program's own source, which the test names.
"""

from __future__ import annotations

import re

import pytest

from service.dialects.anthropic import answer as anthropic
from service.dialects.ollama import answer as ollama
from service.dialects.openai import answer as openai
from service.errors import (
    BadRequest,
    ClientTooSlow,
    EngineFailure,
    EngineGoingDown,
    EngineGone,
    Forbidden,
    GoingDown,
    InternalError,
    ModelNotFound,
    PayloadTooLarge,
    PromptTooLong,
    ResponseNotFound,
    ServerBusy,
    ServiceError,
    TooManyRequests,
    Unauthorized,
    Unsupported,
    UnsupportedCoding,
)
from tests.support.responses import answering

TOO_LONG = PromptTooLong(
    "the prompt has 9000 tokens, and the maximum context length is 4096 tokens", tokens=9000, limit=4096
)
OTHERS: list[ServiceError] = [
    BadRequest("temperature must be between 0 and 2"), ClientTooSlow("the body came too slowly"),
    EngineFailure("an error was encountered while running the model"), EngineGoingDown(), EngineGone("the engine died"),
    Forbidden("this key may not do this"), GoingDown(), InternalError(), ModelNotFound("model 'x' not found"),
    ResponseNotFound("no response x"), ServerBusy(), TooManyRequests("a limit of the key is reached"),
    Unauthorized("a key is needed"), Unsupported("not here"), UnsupportedCoding("not this coding"),
]  # fmt: skip

# Phrases at which pi (packages/ai/src/utils/overflow.ts) and opencode (packages/opencode/src/provider/error.ts) shorten
# a conversation, as far as an answer of ours could have them.
OVERFLOW = re.compile(
    r"prompt is too long|maximum context length is \d+ tokens|reduce the length of the messages|exceeds the limit of \d"
    r"|context[_ ]length[_ ]exceeded|too many tokens|token limit exceeded|request_too_large|request entity too large"
    r"|input length.*exceeds.*context length",
    re.IGNORECASE,
)
# Phrases of limits that pass, at which pi does not shorten one.
PASSES = re.compile("rate limit|too many requests", re.IGNORECASE)


def text_of(error: ServiceError, dialect: str) -> str:
    """The message as a program sees it."""
    if dialect == "ollama":
        return str(ollama.error_record(error)["error"])
    record = openai.error_record(error) if dialect == "openai" else anthropic.error_record(error)
    return f"{record['error']['type']}: {record['error']['message']}"


@pytest.mark.parametrize("dialect", ["ollama", "openai", "anthropic"])
def test_pi_and_opencode_shorten_a_conversation_that_is_too_long_and_no_other(dialect: str):
    said = text_of(TOO_LONG, dialect)
    assert OVERFLOW.search(said)
    assert not PASSES.search(said)
    assert [error for error in OTHERS if OVERFLOW.search(text_of(error, dialect))] == []


def test_a_body_that_is_too_long_is_shortened_as_well():
    # opencode by the status 413, pi by Anthropic's type.
    assert PayloadTooLarge("no").status == 413
    assert OVERFLOW.search(text_of(PayloadTooLarge("no"), "anthropic"))


def test_claude_code_reads_both_numbers_and_the_first_one_is_greater():
    for tokens, limit in ((9000, 4096), (4096, 4096)):
        error = PromptTooLong("no", tokens=tokens, limit=limit)
        found = re.search(r"prompt is too long: (\d+) tokens > (\d+) maximum", text_of(error, "anthropic"))
        assert found
        assert int(found[1]) > int(found[2])


def test_codex_and_opencode_read_the_code_in_bodies_and_in_streams():
    assert openai.error_record(TOO_LONG)["error"]["code"] == "context_length_exceeded"
    event = answering().failure(TOO_LONG)
    assert (event["type"], event["code"]) == ("error", "context_length_exceeded")
    assert (event["error"]["code"], event["error"]["type"]) == ("context_length_exceeded", "invalid_request_error")


def test_opencode_tries_an_overloaded_server_again():
    assert answering().failure(ServerBusy())["error"]["code"] == "server_is_overloaded"
    assert answering().failure(InternalError())["error"]["code"] == "server_error"
    assert answering().failure(TooManyRequests("no"))["error"]["code"] == "rate_limit_exceeded"


@pytest.mark.parametrize("error", [*OTHERS, TOO_LONG], ids=lambda error: error.kind)
def test_the_agents_sdk_tries_again_what_may_succeed_later(error: ServiceError):
    # src/agents/models/_openai_retry.py, as openai-python does: these statuses, and after `Retry-After` seconds.
    is_tried_again = error.status in (408, 409, 429) or error.status >= 500
    mends_itself = error.retry_after is not None or isinstance(error, (ClientTooSlow, EngineFailure, Unsupported))
    assert is_tried_again == mends_itself


@pytest.mark.parametrize("error", [*OTHERS, TOO_LONG, PayloadTooLarge("no")], ids=lambda error: error.kind)
def test_a_mistake_of_the_client_is_never_called_one_of_the_server(error: ServiceError):
    kinds = openai.error_record(error)["error"]["type"], anthropic.error_record(error)["error"]["type"]
    assert ("api_error" in kinds) == (error.status >= 500), kinds
