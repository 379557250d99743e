"""The pages: their links, paths, names, examples and the site that is made of them."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import tomllib
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import click
import pytest

from service.cli.command import command
from service.config import PREFIX, Settings

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CHANGES.md")),
    *sorted(DOCS.rglob("*.md")),
]
SETTINGS = [PREFIX + each.name.upper() for each in fields(Settings)]

LINK = re.compile(r"\]\(\s*<?([^)>\s]+)>?(?:\s+\"[^\"]*\")?\s*\)|<(?:img|a)\b[^>]*?\b(?:src|href)=\"([^\"]+)\"")
FENCE = re.compile(
    r"^(?P<indent> *)(?P<mark>`{3,}|~{3,}) *(?P<language>[\w-]*).*\n(?P<text>(?:.*\n)*?) *(?P=mark) *$", re.M
)
CODE = re.compile(r"`[^`\n]+`")
# A file of the repository: its folder is one of these, and no address or longer path goes before it.
PATH = re.compile(r"(?<![\w./:~-])(?:service|tests|deploy|bench|docs|requirements)/[\w./-]*")
# Up to what a shell reads itself.
COMMAND = re.compile(r"vllm-wsgi ((?:serve|engine|restart|key|check|settings|certificates)\b[^|>&;`]*)")
MODULE = re.compile(r"-m (service(?:\.\w+)*)")
TARGET = re.compile(r"(?:`|^ *(?:\$ )?)make ([a-z][a-z-]*)", re.M)


class Block(NamedTuple):
    """A fenced block of a page; `line` is that of its first line of text."""

    page: Path
    line: int
    language: str
    text: str


def each_page(pages: list[Path]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("page", pages, ids=lambda page: str(page.relative_to(ROOT)))


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text()
    for found in FENCE.finditer(text):
        lines = [line.removeprefix(found["indent"]) for line in found["text"].splitlines()]
        yield Block(page, text.count("\n", 0, found.start("text")) + 1, found["language"].lower(), "\n".join(lines))


def prose(page: Path) -> str:
    """The page without its code."""
    return CODE.sub("", FENCE.sub("", page.read_text()))


def links(page: Path) -> list[str]:
    return [link or source for link, source in LINK.findall(prose(page))]


def anchors(page: Path) -> set[str]:
    """What a link to a heading of the page may name, as Python-Markdown and as GitHub make it."""
    found = set(re.findall(r"\b(?:id|name)=\"([^\"]+)\"", page.read_text()))
    for heading in re.findall(r"^#+ +(.+?) *#*$", FENCE.sub("", page.read_text()), re.M):
        title = re.sub(r"\[([^\]]*)\]\([^)]*\)|`", r"\1", heading)
        ascii_only = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode()
        found.add(re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", ascii_only).strip().lower()))
        found.add(re.sub(r"[^\w -]", "", title.strip().lower()).replace(" ", "-"))
    return found


def paths(text: str) -> set[str]:
    """The files and folders that a text names; those with `example` in them are for the reader to make."""
    found = {
        each.group().rstrip(".-")
        for each in PATH.finditer(text)
        if text[each.end() : each.end() + 1] not in tuple("…*{<")
    }
    return {each for each in found if "example" not in Path(each).parts and Path(each).stem != "example"}


def parses(decode: Callable[[str], Any], text: str) -> str:
    """What is wrong with a text; empty where nothing is."""
    try:
        decode(text)
    except ValueError as error:
        return str(error)
    return ""


def json_lines(text: str) -> None:
    for line in filter(None, text.splitlines()):
        json.loads(line)


DECODERS: dict[str, Callable[[str], Any]] = {
    "toml": tomllib.loads,
    "json": json.loads,
    "jsonl": json_lines,
    "ndjson": json_lines,
}


@each_page(PAGES)
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for link in links(page):
        if re.match(r"[a-z][a-z+.-]*:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if not target.exists() or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            broken.append(link)
    assert not broken


@each_page([page for page in PAGES if page.is_relative_to(DOCS)])
def test_a_page_of_the_site_links_no_file_outside_the_site(page: Path) -> None:
    relative = [link.partition("#")[0] for link in links(page) if not re.match(r"[a-z][a-z+.-]*:|#", link)]
    assert [link for link in relative if not (page.parent / link).resolve().is_relative_to(DOCS)] == []


@each_page([page for page in PAGES if page.name != "CHANGES.md"])
def test_files_that_a_page_names_exist(page: Path) -> None:
    assert sorted(each for each in paths(page.read_text()) if not (ROOT / each).exists()) == []


@each_page([page for page in PAGES if page.name != "CHANGES.md"])
def test_modules_that_a_page_runs_exist(page: Path) -> None:
    modules = {each.replace(".", "/") for each in MODULE.findall(page.read_text())}
    assert [each for each in modules if not (ROOT / f"{each}.py").exists() and not (ROOT / each).is_dir()] == []


@each_page([page for page in PAGES if page.name != "CHANGES.md"])
def test_targets_of_make_that_a_page_names_exist(page: Path) -> None:
    targets = set(re.findall(r"^([a-z][a-z-]*)(?: [a-z -]+)?:", (ROOT / "Makefile").read_text(), re.M))
    code = [*CODE.findall(page.read_text()), *(block.text for block in blocks(page))]
    assert {target for text in code for target in TARGET.findall(text)} - targets == set()


@each_page([page for page in PAGES if page.name != "CHANGES.md"])
def test_command_lines_that_a_page_shows_parse(page: Path) -> None:
    """Those of `vllm-wsgi`; what a reader replaces may be anything."""
    wrong = {}
    for line in (line for block in blocks(page) for line in block.text.splitlines()):
        for words in COMMAND.findall(line):
            verb, *arguments = shlex.split(words, comments=True)
            try:
                command.commands[verb].make_context(verb, arguments)
            except (KeyError, click.ClickException) as error:
                wrong[line] = str(error)
    assert wrong == {}


@each_page(PAGES)
def test_a_variable_with_our_prefix_is_a_setting(page: Path) -> None:
    named = set(re.findall(rf"\b{PREFIX}[A-Z][A-Z_]*\b", page.read_text()))
    assert named - set(SETTINGS) == set()


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_setting_is_named_on_a_page_that_says_how_to_use_it(setting: str) -> None:
    pages = sorted((DOCS / "how-to").glob("*.md"))
    assert any(re.search(rf"\b{setting}\b", page.read_text()) for page in pages)


@each_page(PAGES)
def test_examples_in_toml_and_json_parse(page: Path) -> None:
    found = [(block, DECODERS[block.language]) for block in blocks(page) if block.language in DECODERS]
    wrong = {f"{page.name}:{block.line}": parses(decode, block.text) for block, decode in found}
    assert {place: error for place, error in wrong.items() if error} == {}


@each_page(PAGES)
def test_no_block_is_left_open_or_fetches_a_script(page: Path) -> None:
    """Material loads what draws `mermaid` from another host when the page is read; pictures are SVG files."""
    assert not re.search(r"^ *(```|~~~)", FENCE.sub("", page.read_text()), re.M)
    assert "mermaid" not in {block.language for block in blocks(page)}


@each_page(PAGES)
def test_no_page_holds_the_marks_of_a_merge(page: Path) -> None:
    assert not re.search(r"^(<{7}|={7}$|>{7})", page.read_text(), re.M)


@each_page(PAGES)
def test_a_row_of_a_table_follows_a_row(page: Path) -> None:
    text = FENCE.sub("", page.read_text())
    heads = re.findall(r"(?:^|\n)[ >]*\n( *\|.*)\n(.*)", text)
    assert not [row for row, below in heads if not re.fullmatch(r"[ |:-]+", below)], "a blank line divides a table"


@each_page([page for page in PAGES if page.parent.parent == DOCS and page.parent.name != "decisions"])
def test_the_first_page_says_which_question_a_page_answers(page: Path) -> None:
    assert f"({page.relative_to(DOCS)})" in (DOCS / "index.md").read_text()


def test_every_page_stands_in_the_navigation_once() -> None:
    listed = re.findall(r": ([\w./-]+\.md)$|^ +- ([\w./-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.M)
    assert sorted(titled or bare for titled, bare in listed) == sorted(
        str(page.relative_to(DOCS)) for page in DOCS.rglob("*.md")
    )


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    python = ROOT / ".venv-docs" / "bin" / "python"
    if not python.exists():
        pytest.skip("MkDocs Material is not installed here; `make site` installs it and builds the site")
    command = [str(python), "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr


def test_the_checks_before_a_commit_use_the_ruff_of_make_check() -> None:
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()
    (version,) = re.findall(r"ruff-pre-commit\n +rev: v([\d.]+)", hooks)
    requirements = [path.read_text() for path in (ROOT / "requirements").glob("*.txt")]
    pins = {pin for text in requirements for pin in re.findall(r"^ruff==([\d.]+)", text, re.M)}
    assert pins == {version}
