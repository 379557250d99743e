"""The web pages that may call: Ollama's CORS rules.

Where the server has no keys, these rules are the only protection from other pages in a browser. A request whose Origin
is not allowed is refused before anything is done, whatever its method (gin-contrib/cors, and the defaults of Ollama's
`envconfig/config.go`, AllowedOrigins). A request without an Origin does not come from a page's script.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_LOCAL = [f"{scheme}://{host}" for host in ("localhost", "127.0.0.1", "0.0.0.0") for scheme in ("http", "https")]
_APPLICATIONS = ["app://*", "file://*", "tauri://*", "vscode-webview://*", "vscode-file://*"]
DEFAULT_ORIGINS = (*_LOCAL, *(f"{origin}:*" for origin in _LOCAL), *_APPLICATIONS)

_STAINLESS = (
    "Arch", "Async", "Custom-Poll-Interval", "Helper-Method", "Lang", "Os", "Package-Version", "Poll-Helper",
    "Retry-Count", "Runtime", "Runtime-Version", "Timeout",
)  # fmt: skip
# Not in Ollama's list: the headers that Anthropic's own client sends from a browser, its key among them.
_ANTHROPIC = "X-Api-Key,Anthropic-Version,Anthropic-Beta,Anthropic-Dangerous-Direct-Browser-Access"
_HEADERS = "Authorization,Content-Type,User-Agent,Accept,X-Requested-With,Openai-Beta," + ",".join(
    [_ANTHROPIC, *(f"X-Stainless-{name}" for name in _STAINLESS)]
)
PREFLIGHT_HEADERS = {
    "Access-Control-Allow-Methods": "GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS",
    "Access-Control-Max-Age": "43200",
}
# Headers that a page may read of an answer besides those that every page may (Fetch, "CORS-safelisted response-header
# name"): they hold the id for reports, the time until the next try, the reason of a refusal, and a stream's address.
EXPOSED_HEADERS = "X-Request-Id,Request-Id,Retry-After,WWW-Authenticate,Allow,Accept-Encoding,Location,Content-Location"
# RFC 9110 §5.1.
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}\Z")
PREFLIGHT_VARY = ("Origin", "Access-Control-Request-Method", "Access-Control-Request-Headers")


def allowed_headers(requested: str) -> str:
    """Return the headers that a page of an allowed origin may send: Ollama's, and those that its browser asks for.

    An allowed origin may send any header, since its key decides what it may do. `requested` is the value of
    Access-Control-Request-Headers; parts of it that are not names of headers are left out.
    """
    known = {name.lower() for name in _HEADERS.split(",")}
    asked = [name.strip() for name in requested.split(",")]
    more = [name for name in dict.fromkeys(asked) if _NAME.match(name) and name.lower() not in known]
    return ",".join([_HEADERS, *more])


class AllowedOrigins:
    """The allowed origins: `configured` (in each, one `*` stands for any text) and Ollama's own."""

    def __init__(self, configured: Sequence[str]) -> None:
        self.all = "*" in configured
        self._patterns: Sequence[str] = (*configured, *DEFAULT_ORIGINS)

    def foreign(self, origin: str, host: str) -> bool:
        """Return whether the request comes from the page of another site; `host` is its Host header."""
        return bool(origin) and origin not in (f"http://{host}", f"https://{host}")

    def allows(self, origin: str) -> bool:
        """Return whether pages of this origin may call."""
        return self.all or any(_matches(origin, pattern) for pattern in self._patterns)


def _matches(origin: str, pattern: str) -> bool:
    before, wildcard, after = pattern.partition("*")
    if not wildcard:
        return origin == pattern
    return len(origin) >= len(before) + len(after) and origin.startswith(before) and origin.endswith(after)
