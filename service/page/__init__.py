"""The web page that `/ui` serves: a playground, the live state and the models, as static files without a build step.

In: what a browser fetches over the public API. Out: HTML, CSS and ES modules.
The files must never load anything from another origin, and hold no data.
"""
