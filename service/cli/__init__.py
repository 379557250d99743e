"""The command `vllm-wsgi`, one module for each verb; `key` and `check` are Flask commands, too.

In: words of a command line and VLLM_WSGI_* variables. Out: lines on stdout, and an exit status.
A verb imports what it needs when it runs, so that `vllm-wsgi key` needs neither gunicorn nor vLLM.
"""
