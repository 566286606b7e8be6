"""Records in which every text is hostile, through every output of every command that reads records."""

from __future__ import annotations

import csv
import io
import json
import unicodedata
from pathlib import Path
from typing import Any

import html5lib
import numpy as np
import pandas as pd
import pytest
from click.testing import Result
from markdown_it import MarkdownIt

from saebench.cli import output
from saebench.results import csv_text, table
from saebench.results.record import Status
from saebench.results.store import ResultStore
from tests.cli.conftest import Invoke
from tests.results.conftest import make_identity, make_number, make_record

HOSTILE = (
    "\x1b[2J\x1b]0;owned\x07\x9b31m\u202e\u2066 <script>hacked()</script> <img src=x onerror=hacked()> <!-- "
    "![x](javascript:hacked()) [y](https://evil.example) https://evil.example www.evil.example `code` a|b | c "
    "\r\nError: forged\n| forged | row |\n\n# forged\u2028</script></td>&lt;{{ 7 * 7 }} %$#_&~^\\end{tabular}"
    "\\input{x} \x00"
)
COMMANDS = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def hostile(start: str) -> str:
    return f"{start}{HOSTILE}"


def number(metric: str, value: float, **more: Any) -> Any:
    made = make_number(metric, value, value - 0.01, value + 0.01, **more)
    return made.model_copy(update={"unit": hostile("unit"), "interval": hostile("@interval")})


@pytest.fixture
def ids(folder: Path) -> list[str]:
    return [record.record_id for record in table.read(folder) if record.status is Status.OK and not record.sae.control]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return written(tmp_path, board=False)


def written(tmp_path: Path, board: bool) -> Path:
    """Write hostile records. Those of a board need a preset and a metric that their task has."""
    store = ResultStore(tmp_path / "records")
    for sae, value in (("=1+1", 0.1), ("@SUM(A1)", 0.2), ("-1", 0.3), ("\t=1", 0.4)):
        inputs = {"data": {hostile("d"): "cc" * 32}, "parameters": {hostile("p"): hostile("v")}}
        who = make_identity(sae=hostile(sae), model=hostile("+m"), **inputs)
        failed = sae == "\t=1"
        numbers = [] if failed else [
            number("fvu", value, contributions="fvu"),
            number("ce_recovered_mean", 1 - value, subset=hostile("=subset")),
            number(hostile("=metric"), value),
        ]  # fmt: skip
        record = make_record(
            who,
            measurements=numbers,
            hook=hostile("hook"),
            preset="quick" if board else hostile("preset"),
            control=sae == "-1",
            status=Status.FAILED if failed else Status.OK,
            error=hostile("=error") if failed else "",
        )
        how = record.provenance.model_copy(
            update={"packages": {hostile("k"): hostile("v")}, "device": hostile("=d"), "platform": hostile("p")}
        )
        sae_info = record.sae.model_copy(update={"architecture": hostile("-arch")})
        arrays = {"fvu.num": np.linspace(0, value, 20), "fvu.den": np.ones(20)} if not failed else {}
        store.write(record.model_copy(update={"provenance": how, "sae": sae_info}), arrays)
    bad = tmp_path / "records" / "\x1b[2J\nError: forged" / f"{'0' * 16}.json"
    bad.parent.mkdir()
    bad.write_text("not JSON")
    return store.root


def check_terminal(made: Result, exit_code: int = 0) -> str:
    assert made.exit_code == exit_code, made.output
    check_text(made.output)
    return made.stdout


def check_text(text: str) -> None:
    assert not {unicodedata.category(letter) for letter in text if letter not in "\n\t"} & COMMANDS
    starts = [line.lstrip(" |-")[:13] for line in text.splitlines()]
    assert not [start for start in starts if start.startswith(("Error: forged", "forged", "# forged"))]


def check_markdown(text: str) -> None:
    check_text(text)
    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(text)
    every = [*tokens, *(child for token in tokens for child in token.children or ())]
    kinds = {token.type for token in every}
    assert not kinds & {"html_block", "html_inline", "link_open", "image", "fence", "code_block", "s_open", "em_open"}
    assert not [token for token in every if token.type == "code_inline" and not token.content.startswith("sha256:")]
    assert "&lt;script>" in text


WIDE = [["--wide"], []]
LONG = [["--long"], ["--pivot", "sae,architecture/metric,subset"]]


@pytest.mark.parametrize("options", [*WIDE, *LONG], ids=" ".join)
def test_table_as_markdown(invoke: Invoke, folder: Path, options: list[str]):
    check_markdown(check_terminal(invoke("table", folder, *options)))


@pytest.mark.parametrize("options", [*WIDE, *LONG], ids=" ".join)
def test_table_as_latex(invoke: Invoke, folder: Path, options: list[str]):
    made = check_terminal(invoke("table", folder, "--format", "latex", *options))
    text = "\n".join(line for line in made.splitlines() if not line.startswith("%"))
    assert text.count("\\end{tabular}") == text.count("\\begin{tabular}") == text.count("\\bottomrule")
    assert "\\input" not in text.replace("\\textbackslash input", "")


@pytest.mark.parametrize("options", [["--wide", "--sae", "*SUM*"], *LONG], ids=" ".join)
def test_table_as_csv(invoke: Invoke, folder: Path, options: list[str]):
    made = invoke("table", folder, "--format", "csv", *options)
    assert made.exit_code == 0, made.output
    text = made.stdout_bytes.decode()
    rows = list(csv.reader(io.StringIO(text, newline="")))
    assert len({len(row) for row in rows}) == 1
    for cell in (cell for row in rows for cell in row):
        assert not cell.lstrip().startswith(("=", "+", "@"))
        assert not cell.startswith("-") or cell[1:].partition(" [")[0].replace(".", "").isdigit()
    assert HOSTILE in "".join(cell for row in csv_text.read(text) for cell in (*row, *row.values()))


def test_a_long_table_reads_back(invoke: Invoke, folder: Path):
    frame = table.load(folder)
    pd.testing.assert_frame_equal(
        table.from_csv(invoke("table", folder, "--format", "csv").stdout_bytes), frame, check_exact=True
    )
    rows = json.loads(check_terminal(invoke("table", folder, "--format", "json")))
    for column in ("sae", "metric", "subset", "error", "hook", "model"):
        assert [row[column] for row in rows] == list(frame[column])


def test_csv_on_a_terminal(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    output.write(hostile("=").encode())
    check_text(capsys.readouterr().out.replace("\nError: forged\n| forged | row |\n\n# forged", ""))


@pytest.mark.parametrize("layout", ["text", "md", "json"])
def test_compare(invoke: Invoke, folder: Path, ids: list[str], tmp_path: Path, layout: str):
    a, b = ids
    plot = tmp_path / "plot.svg"
    options = ["--all", "--subsets", "--results", folder, "--format", layout, "--plot", plot]
    text = check_terminal(invoke("compare", a, b, *options))
    if layout == "md":
        check_markdown(text)
    if layout == "json":
        assert json.loads(text)["a"]["name"].endswith(HOSTILE)
    check_text(plot.read_text())


def test_board(invoke: Invoke, tmp_path: Path):
    out = tmp_path / "site"
    check_terminal(invoke("leaderboard", "build", "--results", written(tmp_path, board=True), "--out", out))
    check_markdown((out / "leaderboard.md").read_text())
    check_text((out / "leaderboard.json").read_text())
    data = json.loads((out / "leaderboard.json").read_text())
    names = {hostile("=1+1"), hostile("@SUM(A1)"), hostile("-1")}
    assert {row["sae"] for stratum in data["strata"] for row in stratum["rows"]} >= names
    rows = csv_text.read((out / "leaderboard.csv").read_bytes().decode())
    assert {row["sae"] for row in rows} >= names
    pages = list(out.rglob("*.html"))
    assert len(pages) > 4
    for page in pages:
        for node in html5lib.parse(page.read_bytes(), transport_encoding="utf-8").iter():
            assert not [name for name in node.attrib if name.startswith("on") or name == "style"]
            if node.tag.endswith("}script") and node.get("type") != "application/json":
                assert "assets/" in node.get("src")
            assert (
                not (node.get("href") or "").removeprefix("https://arxiv.org/abs/").startswith(("http", "javascript"))
            )


def test_export(invoke: Invoke, folder: Path, tmp_path: Path):
    check_terminal(invoke("export", folder, "--out", tmp_path / "out"))
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert files
    for path in files:
        check_text(path.read_text())
        check_text(str(path.relative_to(tmp_path)))
        assert json.loads(path.read_text())["model_info"]["name"].endswith(HOSTILE)


def test_submit(invoke: Invoke, folder: Path):
    check_terminal(invoke("submit", folder), exit_code=1)


@pytest.mark.parametrize(
    "arguments",
    [
        ["table", hostile("nosuch")],
        ["table", "--format", hostile("x")],
        [hostile("nosuch")],
        [hostile("--nosuch")],
        ["compare", hostile("a"), "b"],
        ["compare", "a", "b", "--task", hostile("t")],
        ["leaderboard", "build", "--board", hostile("b")],
        ["leaderboard", "serve", hostile("b")],
        ["export", hostile("x"), "--out", "y"],
        ["submit", hostile("x")],
        ["tasks", hostile("x")],
        ["run", "--sae", hostile("zoo:"), "--dry-run"],
        ["run", "--sae", hostile("sae_lens:"), "--dry-run"],
        ["run", "--model", hostile(""), "--dry-run"],
        ["run", "--tasks", hostile("t")],
        ["run", "--config", hostile("x.yaml")],
        ["run", "--sae-group", hostile("a=b,c"), "--dry-run"],
        ["assets", "path", hostile("x")],
        ["check-adapter", hostile("zoo:x")],
    ],
    ids=lambda arguments: arguments[0][:20].strip("\x1b"),
)  # fmt: skip
def test_messages(invoke: Invoke, folder: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(folder.parent)
    made = invoke(*[argument.replace("\0", "") for argument in arguments])
    # A folder of SAELens is looked at when it is loaded.
    assert made.exit_code == (0 if arguments[:3] == ["run", "--sae", hostile("sae_lens:")] else 2), made.output
    check_text(made.output)


def test_nothing_else_prints():
    """Commands print through `saebench.cli.output`, which escapes."""
    for path in Path(output.__file__).parent.glob("*.py"):
        text = path.read_text()
        if path.name not in ("output.py", "quiet.py"):
            assert "click.echo(" not in text, path
            assert "print(" not in text, path
            assert "traceback." not in text, path
