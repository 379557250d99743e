"""The web page that `/ui` serves: a playground, the live state and the models, as static files without a build step.

Nothing enters but what a browser fetches over the public API. The files must never load anything from another origin.
"""
