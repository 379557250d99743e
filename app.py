"""A host application that registers the blueprint, nothing else."""

from __future__ import annotations

from flask import Flask

from service import Settings, create_blueprint, register_json_errors


def create_app(settings: Settings | None = None) -> Flask:
    """The application behind `wsgi.py`; `settings` come from the environment where none are given."""
    app = Flask(__name__, static_folder=None)
    app.register_blueprint(create_blueprint(settings))
    register_json_errors(app)
    return app
