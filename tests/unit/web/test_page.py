"""The files of the web page, as a browser gets them. The application has no engine behind it."""

from __future__ import annotations

import gzip
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

import service
from app import create_app
from service.config import Settings
from service.web.routes.page import PAGE, TYPES

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
FILES = sorted(path.name for path in PAGE.iterdir() if path.suffix in TYPES and path.name != "index.html")


@cache
def client(**settings: Any) -> FlaskClient:
    return create_app(Settings(engine_socket="/nowhere", **settings)).test_client()


def test_the_page_is_in_the_package():
    assert Path(service.__file__).parent / "page" == PAGE
    assert {"app.js", "style.css", "favicon.svg"} <= set(FILES)


@pytest.mark.parametrize("prefix", ["", "/llm/v2"])
def test_the_page_and_all_its_files_are_served_below_the_prefix(prefix: str):
    browser = client(prefix=prefix)
    page = browser.get(f"{prefix}/ui")
    assert (page.status_code, page.content_type) == (200, "text/html; charset=utf-8")
    named = re.findall(r'(?:src|href)="(ui/[^"]+)"', page.text)
    assert "ui/app.js" in named
    # As a browser resolves them: relative to the page.
    assert {browser.get(f"{prefix}/{name}").status_code for name in named} == {200}
    assert {browser.get(f"{prefix}/ui/{name}").status_code for name in FILES} == {200}


def test_with_a_slash_the_browser_is_sent_to_the_page_whose_files_are_relative_to_it():
    answer = client(prefix="/llm").get("/llm/ui/")
    assert (answer.status_code, answer.headers["Location"]) == (301, "../ui")


@pytest.mark.parametrize("path", ["index.html", "__init__.py", "nothing.js", "..%2fconfig.py", "%00", "a/b", "App.js"])
def test_nothing_else_is_served(path: str):
    answer = client().get(f"/ui/{path}")
    assert answer.status_code == 404
    assert answer.content_type == "application/json; charset=utf-8" or "/" in path


def test_the_page_runs_its_own_scripts_and_asks_its_own_server_alone():
    for path in ("/ui", *(f"/ui/{name}" for name in FILES)):
        headers = client().get(path).headers
        policy = dict(part.partition(" ")[::2] for part in headers["Content-Security-Policy"].split("; "))
        assert policy.pop("img-src") == "'self' data:"
        assert policy.pop("require-trusted-types-for") == "'script'"
        assert {policy.pop(name) for name in ("script-src", "style-src", "connect-src")} == {"'self'"}
        assert set(policy) == {"default-src", "base-uri", "form-action", "frame-ancestors", "trusted-types"}
        assert set(policy.values()) == {"'none'"}
        assert headers["X-Content-Type-Options"] == "nosniff"


def test_no_file_names_another_origin_or_holds_inline_script_or_style():
    for path in PAGE.iterdir():
        if path.suffix in TYPES:
            text = path.read_text()
            foreign = set(re.findall(r"(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}", text)) - {"http://www.w3.org"}
            assert foreign == set(), path.name
    page = (PAGE / "index.html").read_text()
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script>|javascript:", page)


@pytest.mark.parametrize(
    ("accepts", "is_compressed"),
    [("gzip, deflate, br", True), ("*", True), ("", False), ("identity", False), ("gzip;q=0", False)],
)
def test_a_file_is_compressed_where_the_browser_can_read_it(accepts: str, is_compressed: bool):
    answer = client().get("/ui/app.js", headers={"Accept-Encoding": accepts})
    assert answer.headers.get("Content-Encoding") == ("gzip" if is_compressed else None)
    assert (gzip.decompress(answer.data) if is_compressed else answer.data) == (PAGE / "app.js").read_bytes()
    assert "Accept-Encoding" in answer.headers["Vary"]


@pytest.mark.parametrize("accepts", ["gzip", ""])
def test_a_file_that_has_not_changed_is_not_sent_again(accepts: str):
    headers = {"Accept-Encoding": accepts}
    first = client().get("/ui/app.js", headers=headers)
    assert first.headers["Cache-Control"] == "no-cache"
    again = client().get("/ui/app.js", headers=headers | {"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    other = client().get("/ui/app.js", headers={"If-None-Match": first.headers["ETag"], "Accept-Encoding": "br"})
    assert other.status_code == (200 if accepts else 304)


def test_the_first_paint_takes_less_than_100_kilobytes():
    page = client().get("/ui", headers={"Accept-Encoding": "gzip"})
    files = [client().get(f"/ui/{name}", headers={"Accept-Encoding": "gzip"}) for name in FILES]
    assert sum(len(each.data) for each in (page, *files)) < 100_000


def test_a_head_of_the_page_has_no_body():
    answer = client().head("/ui")
    assert (answer.status_code, answer.data, answer.content_type) == (200, b"", "text/html; charset=utf-8")


@pytest.mark.parametrize(("accept", "link"), [(BROWSER, '<ui>; rel="alternate"; type="text/html"'), ("*/*", None)])
def test_the_root_stays_ollamas_and_tells_browsers_of_the_page(accept: str, link: str | None):
    answer = client(prefix="/llm").get("/llm/", headers={"Accept": accept})
    assert (answer.text, answer.content_type) == ("Ollama is running", "text/plain; charset=utf-8")
    assert answer.headers.get("Link") == link
    assert answer.headers["Vary"] == "Accept"


def test_without_the_page_its_paths_are_the_applications():
    browser = client(page=False)
    assert {browser.get(path).status_code for path in ("/ui", "/ui/", "/ui/app.js")} == {404}
    root = browser.get("/", headers={"Accept": BROWSER})
    assert ("Link" in root.headers, "Vary" in root.headers) == (False, False)


def test_an_application_has_its_own_page_beside_ours():
    app = Flask(__name__, static_folder=None)
    app.add_url_rule("/ui", "own", lambda: "own")
    app.register_blueprint(service.create_blueprint(Settings(engine_socket="/nowhere")), url_prefix="/llm")
    assert app.test_client().get("/ui").text == "own"
    assert "vllm-wsgi" in app.test_client().get("/llm/ui").text
