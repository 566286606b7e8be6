"""How comparisons read and where their points lie."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from saebench.errors import UsageError
from saebench.results.compare import Comparison, Excluded, Line, Pair, Verdict, compare
from saebench.results.compare_plot import position, save_plot
from saebench.results.compare_text import signed, summaries, to_json, to_text
from saebench.results.paired import difference
from saebench.results.record import Record
from tests.results.conftest import make_identity, make_number, make_record
from tests.results.test_paired import alone, of_units

HARD = np.linspace(0.1, 0.9, 10)


def line(b: float = 0.2, stderr: float | None = 0.05, higher_is_better: bool | None = True, **changes: float) -> Line:
    one, other = alone(0.1, stderr), alone(b, stderr)
    found = difference(one, other)
    return Line("fvu", "", one, other, found, higher_is_better, True, verdict=Verdict.UNDECIDED, **changes)


def of_sae(name: str, l0: float | None = 32.0, **changes: object) -> Record:
    number = make_number("fvu", 0.1, 0.08, 0.12, stderr=0.01)
    return make_record(make_identity(sae=name, **changes), measurements=[number], l0=l0)


def text(a: Record, b: Record) -> str:
    return to_text(compare([(a, {})], [(b, {})]))


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ((0.0403, 0.0354, 0.0453), "+0.0403 [+0.0354, +0.0453]"),
        ((-0.00017, -0.035, 0.034), "0.000 [-0.035, +0.034]"),
        ((-2e6, -3e6, 1e6), "-2.0e+06 [-3.0e+06, +1.0e+06]"),
        ((0.0, 0.0, 0.0), "0 [0, 0]"),
        ((1.5,), "+1.5"),
    ],
)
def test_differences_have_a_sign(numbers: tuple[float, ...], expected: str):
    assert signed(*numbers) == expected


def test_what_else_differs_is_said():
    assert "L0 differ" not in text(of_sae("zoo:a", 32.0), of_sae("zoo:b", 34.0))
    assert "L0 differ" in text(of_sae("zoo:a", 32.0), of_sae("zoo:b", 64.0))
    assert "devices (cpu and cuda)" in text(of_sae("zoo:a"), of_sae("zoo:b", device_class="cuda"))
    moved, wide = of_sae("zoo:b"), of_sae("zoo:b")
    moved.sae.hook, wide.sae.d_sae = "blocks.1.hook_resid_post", 4096
    assert "different sites (blocks.9.hook_resid_post and blocks.1.hook_resid_post)" in text(of_sae("zoo:a"), moved)
    assert "numbers of latents differ" in text(of_sae("zoo:a"), wide)


def test_l0_is_taken_from_the_task_that_knows_it():
    pairs = [Pair(of_sae("zoo:a", l0), of_sae("zoo:b", l0), [line()]) for l0 in (None, 32.0)]
    assert "B: zoo:b (topk, 2,048 latents, L0 32)" in to_text(Comparison(pairs, [], 0))
    assert json.loads(to_json(Comparison(pairs, [], 0)))["a"]["l0"] == 32.0


def test_unpaired_numbers_are_marked():
    read = text(of_sae("zoo:a"), of_sae("zoo:b"))
    assert "128 sequences, unpaired" in read
    assert "Unpaired: " in read


def test_numbers_with_one_reason_share_a_line():
    excluded = [Excluded("core", f"m{i}", "", "not scored for A") for i in range(6)] + [
        Excluded("core", "fvu", "news", "only B has this number"),
        Excluded("dark_matter", "", "", "The seeds differ: 0 and 1."),
    ]
    assert summaries(excluded) == [
        "core m0, m1, m2, m3 and 2 more: not scored for A.",
        "core fvu (news): only B has this number.",
        "dark_matter: The seeds differ: 0 and 1.",
    ]


def test_points_lie_by_what_would_count_and_better_is_right():
    assert position(line(reliable=0.05, reliable_holm=0.1)) == pytest.approx((1.0, 0.5))
    assert position(line(higher_is_better=False, reliable=0.05, reliable_holm=0.1)) == pytest.approx((-1.0, 0.5))
    assert position(line(reliable=0.0, reliable_holm=0.0)) == (math.inf, 0.0)
    assert position(line(b=0.1, reliable=0.0, reliable_holm=0.0)) == (0.0, 0.0)


def test_a_plot_holds_every_metric_with_a_direction(tmp_path: Path):
    pytest.importorskip("matplotlib")
    a, b = of_units(HARD), of_units(HARD + 0.1)  # the same in every unit: drawn as an arrow
    certain = Line("ce", "news", a, b, difference(a, b), True, True, "", 0.0, 0.0, 0.0, Verdict.BETTER)
    without = Line("l0", "", a, b, difference(a, b), None, False, "", 0.0, 0.0, 0.0, None)
    drawn = line(reliable=0.05, reliable_holm=0.1)
    path = tmp_path / "plot.svg"
    save_plot(Comparison([Pair(of_sae("zoo:a"), of_sae("zoo:b"), [certain, without, drawn])], [], 0), path)
    content = path.read_text(encoding="utf-8")
    for shown in ("ce (news)", "fvu", "B is better", "undecided", "zoo:a"):
        assert f"<!-- {shown}" in content or shown in content
    assert "l0" not in content
    hostile = of_sae("zoo:$x_{" + "long" * 100 + "end")
    save_plot(Comparison([Pair(hostile, of_sae("zoo:b"), [drawn])], [], 0), path)
    assert "end" in path.read_text(encoding="utf-8")
    with pytest.raises(UsageError, match="must end in"):
        save_plot(Comparison([], [], 0), tmp_path / "plot.txt")
