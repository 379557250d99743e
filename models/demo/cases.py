"""What the trained model is asked, and how an answer is judged.

Held-out questions, names, cities and phrasings are those that corpus.py keeps out of training.
"""

from collections.abc import Callable, Iterator

from chat_cases import chats, questions, rules
from held_out import HeldOut
from judging import Asked, Case, Group
from long_cases import behind_agents
from single_cases import code, single_behaviours
from thinking_cases import thoughts, thoughts_in_chats, thoughts_without_tools
from tool_cases import calls, forced_calls, results

# Where stories and numbers up to 50 are among the answers.
LONG_ANSWERS = {
    "training questions",
    "held-out questions",
    "held-out, neutral system",
    "thinking",
    "thinking, short questions",
    "other questions beside tools",
    "10,000 tokens, then a question",
    "the same, held-out question",
    "the same, without tools",
    "30,000 tokens, then all of these",
    "single behaviours",
}

# In the order in which evaluate.py prints them.
KINDS: list[Callable[[Asked, HeldOut], Iterator[Group]]] = [
    questions,
    thoughts,
    thoughts_in_chats,
    thoughts_without_tools,
    rules,
    chats,
    calls,
    forced_calls,
    results,
    code,
    single_behaviours,
    behind_agents,
]


class Cases:
    """The cases of every group, by its name, each with the share that has to pass."""

    def __init__(self, model: Asked) -> None:
        drawn = HeldOut()
        found = [group for kind in KINDS for group in kind(model, drawn)]
        self.groups: dict[str, tuple[float, list[Case]]] = {name: (share, cases) for name, share, cases in found}
