"""A case: what the model is asked, and a judge of its answer. A group of cases has a share that has to pass."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, Protocol

from examples import Message

Passes = Callable[[str], bool]
Judge = tuple[Passes, str]  # and what was wanted
Case = tuple[str, Passes, str]  # prompt, judge, what was wanted


class Group(NamedTuple):
    name: str
    share: float
    cases: list[Case]


class Asked(Protocol):
    """The model, as far as the cases need it."""

    def prompt(self, messages: list[Message] | str, **options: Any) -> str: ...


def group(name: str, share: float, rows: Iterable[tuple[str, Judge]]) -> Group:
    """Return a group of rows of prompt and judge. `share`, from 0 to 1, has to pass."""
    return Group(name, share, [(prompt, *judge) for prompt, judge in rows])


def is_(wanted: str) -> Judge:
    """Return a judge of answers that have to be `wanted`."""
    return (lambda answer: answer == wanted), wanted


def thought(wanted: str) -> Judge:
    """Return a judge of answers that have to be a closed thought and then `wanted`."""
    return (lambda answer: answer.startswith("<think>\n") and answer.endswith("</think>\n\n" + wanted)), wanted


def holds(*parts: str) -> Judge:
    """Return a judge of answers that have to end and to hold each part."""
    return (lambda answer: all(part in answer for part in parts) and "[no end]" not in answer), " … ".join(parts)
