"""Writing the site: a page for the board, pages for every SAE and task, and the files that all pages share."""

from __future__ import annotations

import re
import shutil
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from saebench.atomic import write_atomic
from saebench.leaderboard.site import view
from saebench.leaderboard.site.numbers import short

Json = dict[str, Any]
_HERE = Path(__file__).parent
STATIC = _HERE / "static"  # the files that all pages share
# `file:` is there beside 'self' because a page that is opened from a disk has no origin that 'self' could mean.
POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self' file:",
        "style-src 'self' file:",
        "img-src 'self' file:",
        "base-uri 'none'",
        "form-action 'none'",
    ]
)
# Characters that HTML does not allow in text, and halves of surrogate pairs, which no encoding can write.
_NOT_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
# Every page begins with this.
MARK = '<meta name="generator" content="saebench'


def write_site(data: Json, out: Path) -> None:
    """Write the pages of a board below ``out``; ``index.html`` is the board. Equal ``data`` gives equal bytes.

    Pages of an earlier build that no longer exist are removed.

    Args:
        data: What `saebench.leaderboard.data.build` returned.
        out: The folder of the site.

    Raises:
        SaebenchError: A name in ``data`` cannot be the name of a page.
    """
    pages = {"index.html": _board(data)}
    places = view.places(data["strata"])
    for name, sae in data["saes"].items():
        pages[f"sae/{view.page_name(name)}.html"] = _sae(data, sae, places.get(name, []))
    for name, task in data["tasks"].items():
        pages[f"task/{view.page_name(name)}.html"] = _render("task.html", data, root="../", task=task)
    for folder in ("sae", "task"):
        _remove_former(out / folder, keep={Path(path).name for path in pages})
    for path, text in pages.items():
        (out / path).parent.mkdir(parents=True, exist_ok=True)
        write_text(out / path, text)
    shutil.copytree(STATIC, out / "assets", dirs_exist_ok=True, copy_function=_copy)


def write_text(path: Path, text: str) -> None:
    """Write a file of a board, so that whoever looks at it during a build sees the old or the new one."""
    write_atomic(path, lambda file: file.write(text.encode("utf-8")), sync=False)


def _copy(source: str, target: str) -> None:
    write_atomic(Path(target), lambda file: file.write(Path(source).read_bytes()), sync=False)


def _board(data: Json) -> str:
    strata = [view.stratum(content, number) for number, content in enumerate(data["strata"], start=1)]
    return _render("board.html", data, root="", strata=strata)


def _sae(data: Json, sae: Json, places: list[Json]) -> str:
    order = list(dict.fromkeys(metric["task"] for content in data["strata"] for metric in content["metrics"]))
    in_order = sorted(sae["records"], key=lambda r: order.index(r["task"]) if r["task"] in order else len(order))
    records = [view.record(record, data["tasks"][record["task"]]) for record in in_order]
    return _render("sae.html", data, root="../", sae=sae, records=records, places=places)


def _render(template: str, data: Json, **context: Any) -> str:
    return _environment().get_template(template).render(board=data, policy=POLICY, **context)


def _remove_former(folder: Path, keep: set[str]) -> None:
    for page in folder.glob("*.html"):
        if page.name not in keep and MARK in page.read_text(encoding="utf-8", errors="replace")[:1000]:
            page.unlink()


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_text,
        keep_trailing_newline=True,
    )
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":"), "sort_keys": True}
    environment.filters["short"] = short
    environment.filters["prose"] = _prose
    return environment


def _prose(text: str) -> Markup:
    """Return text of a card, escaped, with text in backticks as code."""
    parts = _text(str(text)).split("`")
    if len(parts) % 2 == 0:  # a backtick without a partner
        return escape("`".join(parts))
    return Markup("").join(Markup("<code>{}</code>").format(p) if i % 2 else escape(p) for i, p in enumerate(parts))


def _text(value: Any) -> Any:
    """Return what a template writes: nothing for None, and texts without characters that HTML does not allow."""
    if value is None:
        return ""
    return _NOT_TEXT.sub("\N{REPLACEMENT CHARACTER}", value) if type(value) is str else value
