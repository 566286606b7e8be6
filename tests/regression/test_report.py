"""The report of checks, whatever the names of SAEs, tests and metrics and the reasons hold."""

from __future__ import annotations

import json

from markdown_it import MarkdownIt

from saebench.regression.check import Outcome
from saebench.regression.report import message, summary, to_result, write_report
from saebench.regression.verdicts import Row, Verdict

HOSTILE = "a\x1b[2J\x9bm\u202e | b <script>x</script> ```` [y](z)\nFORGED"


def hostile_result():
    rows = [Row(("core", HOSTILE, HOSTILE), None, None, None, verdict, reason=HOSTILE) for verdict in Verdict]
    outcome = Outcome(HOSTILE, HOSTILE, rows, f"saebench run --sae '{HOSTILE}'", (HOSTILE,), wrote=True)
    return to_result(outcome, f"test_x.py::test['{HOSTILE}']")


def check(text: str) -> None:
    assert not [letter for letter in text if not letter.isprintable() and letter != "\n"]


def test_a_failure_on_the_terminal():
    text = message(hostile_result())
    check(text)
    table, _, commands = text.partition("measure again:")
    assert "\nFORGED" not in table
    assert "  FORGED" in commands  # a part of the command, indented like it


def test_the_summary_on_the_terminal():
    lines = summary([hostile_result(), hostile_result()])
    assert len(lines) > 3
    check("".join(lines))
    assert not [line for line in lines if "\n" in line]


def test_the_written_report(tmp_path):
    write_report(tmp_path / "quality", [hostile_result()])
    page, data = ((tmp_path / f"quality.{kind}").read_text() for kind in ("md", "json"))
    check(page)
    check(data)
    assert json.loads(data)["checks"][0]["sae"] == HOSTILE
    tokens = MarkdownIt("commonmark").enable("table").parse(page)
    kinds = {child.type for token in tokens for child in token.children or [token]}
    assert not kinds & {"html_block", "html_inline", "link_open", "image", "code_inline"}
    [block] = [token for token in tokens if token.type == "fence"]
    assert block.content.startswith("saebench run --sae 'a\\x1b[2J")
    assert block.content.endswith("FORGED'\n")
