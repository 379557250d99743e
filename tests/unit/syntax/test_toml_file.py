from __future__ import annotations

from service.syntax.toml_file import line_of


def test_a_value_over_several_lines_begins_on_its_first():
    text = 'a = """\n[b]\n"""\n\n# c\n[b]\nc = [\n  1,\n]\nd = 1\n'
    assert [line_of(text, place) for place in [("a",), ("b",), ("b", "c"), ("b", "d")]] == [1, 6, 7, 10]
