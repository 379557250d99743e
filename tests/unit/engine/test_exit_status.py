from __future__ import annotations

import pytest

from service.engine.exit_status import cause


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (None, "ended"),
        (0, "exited with status 0"),
        (70, "exited with status 70"),
        (-4, "was killed by SIGILL (an instruction that this CPU does not have)"),
        (-9, "was killed by SIGKILL (probably by the kernel's out-of-memory killer)"),
        (-11, "was killed by SIGSEGV (a memory fault)"),
        (-15, "was killed by SIGTERM"),
        (-99, "was killed by signal 99"),
    ],
)
def test_an_exit_status_is_put_into_words(status: int | None, text: str):
    assert cause(status) == text
