"""The application factory of a checkout: `create_app()`. It stands in the package, so that a wheel has it too."""

from service.web.application import create_app

__all__ = ["create_app"]
