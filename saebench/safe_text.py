"""Foreign text on its way out: names, errors and file names from records, SAEs and disks, which may hold anything.

Such text must not give commands to a terminal, forge lines of output, or become HTML, a link or a table cell of a
Markdown page. Formulas in CSV files are the business of `saebench.results.csv_text`, and the site's templates escape
what they write.
"""

from __future__ import annotations

import json
import re

LONGEST = 200  # characters of foreign text in a message

_NUMBER = r"[-+]?[\d,]*\.?\d+(?:[eE][-+]?\d+)?"
# A number that may have an interval, as tables show it. It is safe everywhere.
NUMBERS = re.compile(rf"{_NUMBER}(?: \[{_NUMBER}, {_NUMBER}\])?", re.ASCII)

# What CommonMark or GitHub read as a link, an image, code, emphasis, mathematics, or the end of a cell.
_MARKUP = re.compile(r"[\\`*\[\]|~$]|(?<![^\W_])_|_(?![^\W_])")
_ENTITY = re.compile(r"&(?=#?\w+;)")
_TAG = re.compile(r"<(?=[a-z/!?])", re.IGNORECASE)
_ADDRESS = re.compile(r":(?=//)|(?<=\bwww)\.", re.IGNORECASE)
_START = re.compile(r"^(?:[#+=>-]|\d+(?=[.)](?: |$)))")


def visible(text: str) -> str:
    r"""Return ``text`` on one line, with every character that cannot be printed escaped, such as ``\x1b`` for ESC.

    Blanks, tabs and line breaks in a row become one blank.
    """
    return _printable(" ".join(text.split()))


def visible_lines(text: str) -> str:
    """Return ``text`` with its line breaks, tabs and blanks, and with every other character escaped as in `visible`.

    This is for output with lines of its own. Foreign text in such a line must have passed `visible` before.
    """
    lines = text.replace("\r\n", "\n").split("\n")
    return "\n".join("\t".join(map(_printable, line.split("\t"))) for line in lines)


def short(text: object, longest: int = LONGEST) -> str:
    """Return the text of ``text`` as `visible` does, with its middle left out where it is too long for a message."""
    written = str(text)
    if len(written) > 8 * longest:  # so long that only the ends are looked at
        written = f"{written[: 2 * longest]}…{written[-2 * longest :]}"
    line = visible(written)
    if len(line) <= longest:
        return line
    half = (longest - 1) // 2
    return f"{line[:half]}…{line[-half:]}"


def markdown(text: str) -> str:
    r"""Return Markdown that shows ``text`` as it is, on one line and as part of a paragraph, a list or a table.

    ``<script>`` becomes ``&lt;script>``, ``[a](b)`` becomes ``\[a\](b)``, and bare addresses are not linked. Names
    such as ``baseline:random?d_sae=2048&l0=32`` need no escape and stay readable, and so do numbers
    with their interval.
    """
    if NUMBERS.fullmatch(text):
        return text
    line = _MARKUP.sub(r"\\\g<0>", _ENTITY.sub("&amp;", visible(text)))
    line = _START.sub(lambda start: f"{start[0]}\\" if start[0].isdigit() else f"\\{start[0]}", line)
    return _ADDRESS.sub(r"\\\g<0>", _TAG.sub("&lt;", line))


def json_text(text: str) -> str:
    """Return a JSON text with every character escaped that cannot be printed. Its value stays the same.

    JSON itself escapes ESC, but not the control characters above 127, nor those that reverse the direction of text.
    """
    if text.replace("\n", "").isprintable():
        return text
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c).strip('"') for c in text)


def _printable(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
