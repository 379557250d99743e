"""Joins the deltas of an answer that have piled up, so that all of them cost as much as one.

An engine worker joins what a web worker has not read yet, and a web worker what a stream has not taken yet.
"""

from __future__ import annotations

from .events import Delta, Event, Finished


def joined(events: list[Event]) -> list[Event]:
    """Return the events, with one delta for all consecutive deltas of one answer.

    The deltas of several answers alternate; each answer keeps its own order and ends where it ended. Thinking stays
    before text, and text before tool calls. With log probabilities, which don't say whose they are, it stays apart.
    """
    merged: list[Event] = []
    runs: dict[tuple[int, int], list[Delta]] = {}
    # The answers whose run holds text already, after which no thinking may be added to it.
    with_text: set[tuple[int, int]] = set()
    for event in events:
        if not isinstance(event, Delta):
            ended = [(event.id, event.index)] if isinstance(event, Finished) else list(runs)
            merged += [_one(runs.pop(answer)) for answer in ended if answer in runs]
            merged.append(event)
            continue
        answer = event.id, event.index
        run = runs.setdefault(answer, [])
        if run and (run[-1].tool_calls or _changes(run, event, answer in with_text)):
            merged.append(_one(run))
            run.clear()
            with_text.discard(answer)
        run.append(event)
        if event.text:
            with_text.add(answer)
    return merged + [_one(run) for run in runs.values()]


def _changes(run: list[Delta], event: Delta, has_text: bool) -> bool:
    """Return whether thinking follows text, or text follows thinking whose log probabilities would become its own."""
    if event.thinking:
        return has_text
    return bool(event.text and event.logprobs and not has_text and any(each.thinking for each in run))


def _one(run: list[Delta]) -> Delta:
    if len(run) == 1:
        return run[0]
    return Delta(
        run[0].id,
        run[0].seq,
        "".join([delta.text for delta in run]),
        [token_id for delta in run for token_id in delta.token_ids],
        "".join([delta.thinking for delta in run]),
        run[-1].tool_calls,
        [token for delta in run for token in delta.logprobs],
        run[0].index,
        sum(delta.prompt_tokens for delta in run),
    )
