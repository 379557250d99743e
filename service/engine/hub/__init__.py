"""Pulls of models from Hugging Face, each in a child process.

In: a repository and a revision. Out: progress, and files in huggingface_hub's cache.
It never knows a manifest, a web worker or vLLM.
"""
