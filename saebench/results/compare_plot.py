"""A comparison as a forest plot: all differences on one scale, with better to the right."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

from saebench.errors import UsageError
from saebench.results.compare import Comparison, Line, Pair, Verdict
from saebench.results.compare_text import name, signed
from saebench.results.render import format_number
from saebench.safe_text import visible

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".svg", ".pdf")
_ROW, _MARGIN = 0.28, 1.7  # inches
# Colours of Okabe and Ito's palette, which colour-blind readers can distinguish; the shapes say the same.
_LOOK = {Verdict.BETTER: ("#0072B2", "o"), Verdict.WORSE: ("#D55E00", "s"), Verdict.UNDECIDED: ("#767676", "D")}
_LONGEST = 60  # how many characters of a name are shown
_LEGEND = {Verdict.BETTER: "B is better", Verdict.WORSE: "B is worse", Verdict.UNDECIDED: "undecided"}
_TICKS = (0, 1, 3, 10, 30, 100, 300, 1000)


def save_plot(comparison: Comparison, path: Path) -> None:
    """Draw the differences into ``path`` (.png, .svg or .pdf).

    A difference is divided by the smallest one that would be significant beside the others (`Line.reliable_holm`), so
    that verdicts begin at the lines -1 and 1. Its sign is such that a better B is on the right. Metrics without a
    direction and numbers without an interval are not drawn.

    Raises:
        UsageError: The suffix is another one, matplotlib is not installed, the file cannot be written, or there is
            nothing to draw.
    """
    if path.suffix.lower() not in SUFFIXES:
        raise UsageError(f"Cannot draw a plot as {path.name}; its name must end in {', '.join(SUFFIXES)}.")
    try:
        from matplotlib import rc_context
    except ImportError as error:
        raise UsageError("Plots need matplotlib; install it with `pip install matplotlib`.") from error
    with rc_context({"svg.hashsalt": "saebench", "font.size": 9}):
        figure = _figure(comparison)
        try:
            figure.savefig(path, dpi=150, bbox_inches="tight")
        except OSError as error:
            raise UsageError(f"Cannot write {path} ({error.strerror}); choose another --plot.") from error


def position(line: Line) -> tuple[float, float]:
    """Return where ``line`` is drawn, and half the width of its 95 % interval on that scale.

    The place is infinite where the difference has no noise.
    """
    sign = 1.0 if line.higher_is_better else -1.0
    if line.reliable_holm == 0:
        value = line.difference.value
        return (math.copysign(math.inf, sign * value) if value else 0.0), 0.0
    return sign * line.difference.value / line.reliable_holm, line.reliable / line.reliable_holm


def _drawable(line: Line) -> bool:
    return line.verdict is not None and not math.isnan(line.difference.p)


def _figure(comparison: Comparison) -> Figure:
    from matplotlib.figure import Figure

    pairs = [Pair(pair.a, pair.b, lines) for pair in comparison.pairs if (lines := [*filter(_drawable, pair.lines)])]
    lines = [line for pair in pairs for line in pair.lines]
    if not lines:
        raise UsageError("There is nothing to draw: no metric compared has both a direction and an interval.")
    figure = Figure(figsize=(8, _MARGIN + _ROW * (len(lines) + len(pairs))))
    axes = figure.subplots()
    reach = max((abs(at) + half for at, half in map(position, lines) if math.isfinite(at)), default=1.0)
    limit = max(3.0, 1.5 * reach)
    row, labels, seen = 0, [], set()
    for pair in pairs:
        labels.append((row, f"{pair.a.identity.task} ({pair.a.preset})", "bold"))
        row += 1
        for line in pair.lines:
            assert line.verdict is not None
            at, half = position(line)
            colour, marker = _LOOK[line.verdict]
            if math.isinf(at):  # the difference is the same in every unit
                at, half, marker = math.copysign(limit, at), 0.0, ">" if at > 0 else "<"
            label = None if line.verdict in seen else _LEGEND[line.verdict]
            axes.errorbar(at, row, xerr=half, color=colour, marker=marker, capsize=2, markersize=5, label=label)
            axes.annotate(_values(line), (1.01, row), xycoords=axes.get_yaxis_transform(), va="center", fontsize=8)
            labels.append((row, name(line.metric, line.subset), "normal"))
            seen.add(line.verdict)
            row += 1
    axes.axvline(0, color="black", linewidth=0.8)
    for edge in (-1, 1):
        axes.axvline(edge, color="grey", linewidth=0.8, linestyle="--")
    axes.set_xscale("symlog", linthresh=1.0)
    ticks = [tick for tick in _TICKS if tick <= limit]
    ticks = sorted({-tick for tick in ticks} | set(ticks))
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_xticks([], minor=True)
    axes.set(xlim=(-limit, limit), ylim=(row - 0.5, -0.7))
    axes.set_yticks([at for at, _, _ in labels], [_short(text) for _, text, _ in labels], parse_math=False)
    for tick, (_, _, weight) in zip(axes.get_yticklabels(), labels, strict=True):
        tick.set_fontweight(weight)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("← A is better        B is better →\ndifference / smallest significant difference (95 %, Holm)")
    names = [_short(record.sae.name) for record in (pairs[0].a, pairs[0].b)]
    axes.set_title("A = {}\nB = {}".format(*names), loc="left", fontsize=9, parse_math=False)
    axes.annotate("A → B (B - A)", (1.01, 0), xycoords=axes.get_yaxis_transform(), va="center", fontsize=8)
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3, frameon=False, fontsize=8)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    return figure


def _short(text: str) -> str:
    """Return ``text`` on one line, shortened in its middle if it is too long; the ends of paths say the most."""
    text = visible(text)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST // 3]}…{text[-(_LONGEST - _LONGEST // 3 - 1) :]}"


def _values(line: Line) -> str:
    a, b = (format_number(side.value if side.value is not None else math.nan) for side in (line.a, line.b))
    return f"{a} → {b} ({signed(line.difference.value)})"
