"""The log probabilities of a message of `/v1/responses`: each belongs to a token of its text."""

from __future__ import annotations

from ...protocol.events import TokenLogprob
from ..answer import Record


def as_record(token: TokenLogprob) -> Record:
    """Return a log probability with all its fields. An encoded TokenLogprob leaves the empty ones out."""
    alternatives = [as_record(each) for each in token.top_logprobs]
    return {"token": token.token, "bytes": list(token.bytes), "logprob": token.logprob, "top_logprobs": alternatives}


def of_text(logprobs: list[Record], left: int) -> list[Record]:
    """Return the first log probabilities, whose tokens have `left` bytes at most: the token of an end has no place."""
    for place, token in enumerate(logprobs):
        left -= len(token["bytes"])
        if left < 0:
            return logprobs[:place]
    return logprobs


def from_text(logprobs: list[Record], text: str) -> list[Record] | None:
    """Return the log probabilities from the token on with which the text begins, None if there is no such token.

    The text may lag behind its tokens, but it mostly ends with them, or before the token that ends the answer.
    """
    # A character for each byte: two texts are then compared from any byte on without a copy.
    tokens = ["".join(map(chr, token["bytes"])) for token in logprobs]
    whole, wanted = "".join(tokens), text.encode().decode("latin-1")
    found: list[Record] | None = None
    start = len(whole)
    for place in range(len(tokens) - 1, -1, -1):
        start -= len(tokens[place])
        if whole.startswith(wanted, start):
            found = logprobs[place:]
            if len(whole) - start - len(wanted) in (0, len(tokens[-1])):
                break
    return found
