"""The command `vllm-wsgi`: serve, engine, restart, key, check and settings; two of them are Flask commands, too.

In: words of a command line and VLLM_WSGI_* variables. Out: lines on stdout, and an exit status.
A verb imports what it needs when it runs, so that `vllm-wsgi key` needs neither gunicorn nor vLLM.
"""
