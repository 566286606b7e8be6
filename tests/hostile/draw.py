"""Random hostile texts and values, drawn from a seeded generator, and mutations of good ones."""

from __future__ import annotations

import random
from typing import Any

ODD = (
    *("", " ", "\t", "\n", "\r\n", "\0", "\x1b[31m", "\x07", "\x7f", "\x85", "\u2028", "\u202e", "\ufeff", "\u200b"),
    *("\ud800", "\udcff", "\udc80", "\ud83d\ude00", "\U0010ffff", "\uffff", "e\u0301", "\ufb00", "\u0130", "\u017f"),
    *("\u00b2", "\u00bd", "\u0663", "\uff11\uff12", "\u2167", "0x10", "0b1", "0o7", "1_000", "1e3", "1e400", "1e-400"),
    *("-1", "-0", "+5", ".5", "5.", "inf", "-inf", "nan", "NaN", "Infinity", "9" * 400, "9" * 4299, "9" * 4301),
    *("9" * 5000, "-" + "9" * 4301, "9223372036854775807", "9223372036854775808", "-9223372036854775809", "9" * 30),
    *("true", "True", "None", "null", "yes", "0", "1", "2", "64", "2024-01-01", "2024-01-01T00:00:00Z", "2024-13-45"),
    *("~", "~nouser", "~nouser/x", "~root", "~/x", ".", "..", "./", "...", "a" * 256, "a" * 5000, "a/" * 3000, "CON"),
    *("-", "--", "---", "-h", "--help", "%", "%00", "%FF", "%ED%A0%80", "%zz", "%3A", "%2C", "%28", "%29", "%3F", "%s"),
    *("(", ")", "((((", "))))", "()", ")(", ":", "::", "?", "??", "?=", "?a", "&", "&&", "=", "==", "@", "#", ",", "!"),
    *(";", "[", "]", "[:", "]:", "[1:2]", "{", "}", "{0}", "{__class__}", "%(x)s", "\\", "\\x", "'", '"', "`", "*"),
    *("**", "$HOME", "$(x)", "<script>", "=1+1", "A", "\u00df", "\u00e9", "\u65e5\u672c"),
)
LONG = 20_000  # characters; longer texts cost time and show nothing more


def odd(draw: random.Random) -> str:
    """Return a hostile text: one of `ODD`, several of them, or random characters."""
    kind = draw.random()
    if kind < 0.6:
        return draw.choice(ODD)
    if kind < 0.8:
        return "".join(draw.choice(ODD) for _ in range(draw.randrange(1, 5)))[:LONG]
    return "".join(chr(draw.choice((draw.randrange(128), draw.randrange(0x11000)))) for _ in range(draw.randrange(12)))


def mutated(draw: random.Random, text: str, others: tuple[str, ...] = ()) -> str:
    """Return ``text`` after a few random changes; ``others`` are texts of the same kind to mix it with."""
    for _ in range(draw.choice((1, 1, 1, 2, 3, 5))):
        text = _changed(draw, text, others)[:LONG]
    return text


def _changed(draw: random.Random, text: str, others: tuple[str, ...]) -> str:
    first, last = sorted((draw.randint(0, len(text)), draw.randint(0, len(text))))
    kind = draw.randrange(7)
    if kind == 0:  # remove a part
        return text[:first] + text[last:]
    if kind == 1:  # repeat a part
        return text[:first] + text[first:last] * draw.choice((2, 3, 50)) + text[last:]
    if kind == 2:  # put in a part of another text
        other = draw.choice(others) if others else odd(draw)
        cut = draw.randint(0, len(other))
        return text[:first] + draw.choice((other, other[:cut], other[cut:])) + text[first:]
    if kind == 3:  # replace a part
        return text[:first] + odd(draw) + text[last:]
    if kind == 4:  # replace the part after a separator
        marks = [place for place, character in enumerate(text) if character in ":=?&/,@.("]
        place = draw.choice(marks) + 1 if marks else 0
        return text[:place] + odd(draw)
    if kind == 5:
        return text + odd(draw)
    return text[:first] + odd(draw) + text[first:]


def value(draw: random.Random, depth: int = 3) -> Any:
    """Return a random value as JSON has them: text, a number, a truth value, null, a list or an object."""
    kind = draw.randrange(9 if depth else 6)
    if kind < 2:
        return odd(draw)
    if kind == 2:
        return draw.choice((0, 1, -1, 2, 16, 2**31, 2**63, -(2**63) - 1, 2**64, 10**400))
    if kind == 3:
        return draw.choice((0.0, -0.0, 0.5, 1e308, -1e308, 5e-324, float("inf"), float("-inf"), float("nan")))
    if kind == 4:
        return draw.choice((True, False, None))
    if kind == 5:
        return draw.choice(([], {}, "", [[]], [{}], {"": ""}, [None]))
    items = [value(draw, depth - 1) for _ in range(draw.randrange(4))]
    return items if kind < 8 else {odd(draw): item for item in items}
