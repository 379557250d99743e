"""How many tokens of prompts one step of the engine may have.

A long prompt is computed in pieces, and all other streams wait for each piece. On a CPU a piece of vLLM's size takes
seconds. So the pieces become smaller while steps take long, and larger again while they are short.
"""

from __future__ import annotations

# A longer step is a visible pause in every stream.
LONG_SECONDS = 0.25
# In a shorter step, the part of its time that does not depend on the prompts outweighs the rest.
SHORT_SECONDS = 0.1
# In tokens.
FIRST, LEAST = 512, 32
# While several callers have requests, a step has this part of the tokens: an answer of a few tokens waits for a few
# steps.
SHARED = 2


class StepLimit:
    """The limit of one engine, from LEAST to `most` tokens."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.tokens = min(FIRST, most)

    def shared_by(self, callers: int) -> int:
        """Return the limit of a step while so many callers have requests."""
        return max(min(LEAST, self.tokens), self.tokens // SHARED) if callers > 1 else self.tokens

    def took(self, seconds: float, tokens: int) -> None:
        """Learn from a step that had this many tokens of prompts."""
        if tokens * SHARED < self.tokens:
            # It was not the prompts that made this step as long as it was.
            return
        # Only a step that callers share is meant to be shorter.
        part = 1 / SHARED if tokens * SHARED <= self.tokens else 1.0
        if seconds > LONG_SECONDS * part:
            self.tokens = min(self._most, max(LEAST, self.tokens // 2))
        elif seconds < SHORT_SECONDS * part:
            self.tokens = min(self._most, self.tokens * 2)
