"""OpenAI's API: chat completions, completions, responses, embeddings, models.

In: bodies of its routes, and events. Out: requests, and its records.
It never knows another dialect.
"""
