"""gunicorn's settings for `gunicorn -c gunicorn.conf.py wsgi:app`.

They come from service/gunicorn/conf.py, and the hooks from service/gunicorn/hooks.py, so that a checkout and an
installed package serve in the same way. HOST and PORT choose the address, MODEL the model, WEB_CONCURRENCY the number
of web workers; everything else is a VLLM_WSGI_ variable (docs/reference/settings.md). A setting of gunicorn's that is
written below the import replaces the one that is imported.
"""

from service.gunicorn.conf import *  # noqa: F403
