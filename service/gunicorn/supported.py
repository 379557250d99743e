"""The versions of gunicorn that our worker runs under, checked before anything of gunicorn is imported."""

from __future__ import annotations

from importlib.metadata import version

# Earlier parsers leave a Transfer-Encoding that they don't know in the body.
OLDEST = 22


def refuse_old_gunicorn() -> None:
    """End the process with a sentence when gunicorn is too old for our worker."""
    installed = version("gunicorn")
    if int(installed.partition(".")[0]) < OLDEST:
        # gunicorn would print a traceback for an exception of another kind.
        raise SystemExit(
            f"vllm_wsgi: our worker needs gunicorn {OLDEST} or later, and this is {installed}. "
            "The workers gevent and gthread of this version can serve the blueprint."
        )
