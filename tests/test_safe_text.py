"""Foreign text gives no commands to a terminal, forges no lines, and is only text in Markdown and JSON."""

from __future__ import annotations

import json
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from saebench.safe_text import json_text, markdown, short, visible, visible_lines

ANY = st.text(st.characters(codec=None))
MARKUP = st.lists(
    st.sampled_from([*"\\`*_[]()<>!|~$&#;:/.-+= 1aw\n", "www.", "https://", "&lt;", "<b>", "[a](b)"]), max_size=30
).map("".join)
COMMANDS = {"Cc", "Cf", "Cs", "Zl", "Zp"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é 中 ↑", "plain é 中 ↑"),
        ("\x1b[2J\x1b]0;title\x07", r"\x1b[2J\x1b]0;title\x07"),
        ("\x9b31m", r"\x9b31m"),
        ("a\u202eb\u2066c\u200fd", r"a\u202eb\u2066c\u200fd"),
        ("a\nb\r\nc\td\u2028e\x85f", "a b c d e f"),
        ("nul\x00 \ud800", r"nul\x00 \ud800"),
        ("\U000e0041", r"\U000e0041"),
    ],
)
def test_a_line(text, shown):
    assert visible(text) == shown


def test_lines_keep_their_layout():
    assert visible_lines("a  b\n\tc\r\nd\x1b[2J\re\n") == "a  b\n\tc\nd\\x1b[2J\\re\n"


@given(ANY)
def test_no_character_that_gives_commands_remains(text):
    for shown in (visible(text), markdown(text), short(text)):
        assert not {unicodedata.category(letter) for letter in shown} & COMMANDS
        shown.encode()
    assert not {unicodedata.category(c) for c in visible_lines(text).replace("\n", "").replace("\t", "")} & COMMANDS


def test_the_ends_of_a_long_text_are_kept():
    shown = short("a" * 10_000_000 + "end")
    assert len(shown) <= 200
    assert shown.startswith("aaa")
    assert shown.endswith("end")


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("baseline:random?d_sae=2048&l0=32", "baseline:random?d_sae=2048&l0=32"),
        ("ce_recovered_mean", "ce_recovered_mean"),
        ("p < 0.05 & more", "p < 0.05 & more"),
        ("<script>alert(1)</script>", "&lt;script>alert(1)&lt;/script>"),
        ("<img src=x onerror=y>", "&lt;img src=x onerror=y>"),
        ("<!-- -->", "&lt;!-- -->"),
        ("![a](javascript:b)", r"!\[a\](javascript:b)"),
        ("https://example.org www.example.org", r"https\://example.org www\.example.org"),
        ("<https://example.org>", r"&lt;https\://example.org>"),
        ("&lt; &#60;", "&amp;lt; &amp;#60;"),
        ("a | b", r"a \| b"),
        ("_a_ b_c", r"\_a\_ b_c"),
        ("# heading", r"\# heading"),
        ("- item", r"\- item"),
        ("1. item", r"1\. item"),
        ("`code` $x$ ~y~", r"\`code\` \$x\$ \~y\~"),
        ("a\\b", r"a\\b"),
        ("a\nb", "a b"),
    ],
)
def test_markdown(text, written):
    assert markdown(text) == written


@given(MARKUP)
def test_markdown_shows_the_text_and_nothing_else(text):
    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    line = visible(text)
    table = f"| head |\n|:--|\n| {markdown(text)} |"
    cells = [token for token in parser.parse(table) if token.type == "inline"]
    assert len(cells) == 2
    for token in (*cells[1:], *parser.parse(f"- {markdown(text)}")):
        if token.type == "inline":
            assert {child.type for child in token.children} <= {"text", "text_special"}
            assert "".join(child.content for child in token.children) == line


@given(st.recursive(ANY, lambda item: st.lists(item) | st.dictionaries(ANY, item)))
def test_json_keeps_its_value(value):
    text = json_text(json.dumps(value, ensure_ascii=False, indent=1))
    assert json.loads(text) == value
    assert text.replace("\n", "").isprintable()
