"""Ollama's native API.

In: bodies of its routes, and events. Out: requests, and its records.
It never knows another dialect.
"""
