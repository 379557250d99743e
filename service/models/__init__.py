"""The models known by name, and the content of their files.

In: models.toml, manifests, model directories. Out: models and their descriptions.
It never loads a model or knows a request.
"""
