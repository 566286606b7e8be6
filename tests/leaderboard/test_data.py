"""What a board counts, in which stratum, and that the same records always give the same board."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from saebench.errors import UsageError
from saebench.leaderboard.data import build
from saebench.leaderboard.render import to_json, to_markdown
from saebench.leaderboard.stratum import width_class
from saebench.results.collection import Collection
from tests.leaderboard.world import HOOK, MODEL, World, board

pytestmark = pytest.mark.usefixtures("made_up_cards")

NOISE = np.random.default_rng(1).normal(size=30) * 0.01
LOW, HIGH = list(0.2 + NOISE), list(0.7 + np.roll(NOISE, 3))


@pytest.fixture
def world(tmp_path) -> World:
    """SAE "best" beats "worst" in both tasks; "half" lacks beta; control "chance" beats them all."""
    world = World(tmp_path / "results")
    world.add("best", "alpha", good=HIGH, loss=LOW, plain=LOW)
    world.add("best", "beta", score=HIGH)
    world.add("worst", "alpha", good=LOW, loss=HIGH, plain=LOW)
    world.add("worst", "beta", score=LOW)
    world.add("half", "alpha", good=HIGH, loss=LOW)
    for task, units in (
        ("alpha", {"good": list(np.ones(30)), "loss": list(np.zeros(30))}),
        ("beta", {"score": [1.0] * 30}),
    ):
        world.add("baseline:neurons", task, control=True, d_sae=32, who={"sae_fingerprint": f"of {task}"}, **units)
    return world


def built(world: World, **changes):
    return build(board(**changes), Collection([world.folder]))


def rows(stratum) -> dict:
    return {row["sae"]: row for row in stratum["rows"]}


def test_rows_of_a_stratum(world):
    (stratum,) = built(world)["strata"]
    assert [row["sae"] for row in stratum["rows"]] == ["best", "worst", "half", "baseline:neurons"]
    by_name = rows(stratum)
    assert by_name["best"]["rank"] == {"place": 1, "shared_to": 1, "mean": 1.0, "low": 1, "high": 1}
    assert by_name["worst"]["rank"] == {"place": 2, "shared_to": 2, "mean": 2.0, "low": 2, "high": 2}
    assert (by_name["half"]["rank"], by_name["half"]["completed"], by_name["half"]["of"]) == (None, 1, 2)
    assert (by_name["baseline:neurons"]["rank"], by_name["baseline:neurons"]["completed"]) == (None, 2)
    assert by_name["half"]["values"]["beta/score"]["not_scored"] == "not measured"
    assert by_name["best"]["values"]["alpha/good"]["value"] == pytest.approx(np.mean(HIGH))
    assert [(metric["key"], metric["ranked"]) for metric in stratum["metrics"]] == [
        ("alpha/good", True), ("alpha/loss", True), ("beta/score", True)
    ]  # fmt: skip


def test_an_sae_whose_code_is_dense_is_shown_and_not_ranked(world):
    """An identity that is given as an object is no control, and wins every column."""
    assert world.add("dense", "beta", score=[1.0] * 30, l0=320.0).sae.d_in == 640
    world.add("dense", "alpha", good=[1.0] * 30, loss=[0.0] * 30, l0=320.0)
    for task, units in (("alpha", {"good": [0.5] * 30, "loss": [0.5] * 30}), ("beta", {"score": [0.5] * 30})):
        world.add("nearly", task, l0=319.0, **units)
    data = built(world)
    by_name = rows(data["strata"][0])
    assert (by_name["dense"]["rank"], by_name["dense"]["completed"]) == (None, 2)
    assert by_name["dense"]["unranked"].startswith("It is not ranked, because its code is dense: 320 latents")
    assert (by_name["best"]["rank"]["place"], by_name["best"]["unranked"]) == (1, "")
    assert by_name["nearly"]["rank"] is not None
    page = to_markdown(data)
    assert "| dense" in page
    assert "dense: It is not ranked, because its code is dense" in page


def test_a_control_fitted_to_each_text_is_one_row(world):
    assert len([row for row in built(world)["strata"][0]["rows"] if row["control"]]) == 1


def test_unreliable_metrics_and_those_without_direction_are_shown_and_not_ranked(world):
    world.add("shaky", "alpha", good=LOW, loss=LOW, shaky=HIGH)
    (stratum,) = built(world, tasks={"alpha": {"columns": ["good", "shaky", "plain", "extra"]}, "beta": None})["strata"]
    ranked = {metric["metric"]: metric["ranked"] for metric in stratum["metrics"]}
    assert ranked == {"good": True, "loss": True, "score": True, "shaky": False, "plain": False}, "extra: nobody has it"


def test_versions_are_never_mixed(world):
    world.add("old", "alpha", version=1, good=HIGH, loss=LOW)
    world.add("old", "beta", score=HIGH)
    world.add("new", "alpha", version=3, good=HIGH, loss=LOW)
    data = built(world)
    old = rows(data["strata"][0])["old"]
    assert (old["rank"], old["completed"], old["values"]["alpha/good"]["value"]) == (None, 1, None)
    reasons = {each["sae"]: each["reason"] for each in data["left_out"]}
    assert reasons == {
        "old": "outdated: measured by version 1 of the task, but version 2 counts",
        "new": "measured by version 3 of the task, which is newer than the installed version 2",
    }


@pytest.mark.parametrize(
    ("who", "reason"),
    [
        ({"seed": 1}, "The seeds differ: 0 and 1."),
        ({"parameters": {"text": "asset:a", "scale": 2}}, "The parameter scale differs: 1 and 2."),
        ({"dtype": "float32"}, "The number types of the language model differ"),
        ({"data": {"asset:sae-probes/97_news_class": "other"}}, "The contents of the data"),
    ],
)
def test_what_was_measured_otherwise_is_not_counted(world, who, reason):
    world.add("other", "beta", score=HIGH, who=who)
    (left_out,) = built(world)["left_out"]
    assert left_out["sae"] == "other"
    assert reason in left_out["reason"]


def test_what_was_measured_on_other_units_is_not_counted(world):
    for sae, sequences in (("one", "a"), ("two", "a"), ("three", "b")):
        world.add(sae, "beta", score=HIGH, sequences=sequences)
    data = built(world)
    (left_out,) = data["left_out"]
    assert left_out["sae"] == "three"
    assert left_out["reason"] == (
        "measured differently from most. They were measured on different sequences, although data, settings and seed "
        "are the same."
    )
    assert {"best", "worst", "one", "two"} <= rows(data["strata"][0]).keys(), "records from before count with most"


def test_strata_by_model_hook_preset_and_width(world):
    world.add("wide", "beta", d_sae=16384, score=HIGH)
    world.add("elsewhere", "beta", hook="blocks.3.hook_resid_post", score=HIGH)
    world.add("standard", "beta", preset="standard", score=HIGH)
    world.add("baseline:random", "beta", control=True, d_sae=2048, score=LOW)
    found = {(s["hook"], s["width"], s["preset"]): set(rows(s)) for s in built(world)["strata"]}
    narrow = {"best", "worst", "half", "baseline:neurons", "baseline:random"}
    assert found == {
        (HOOK, "2048", "quick"): narrow,
        (HOOK, "16384", "quick"): {"wide", "baseline:neurons"},
        ("blocks.3.hook_resid_post", "2048", "quick"): {"elsewhere"},
        (HOOK, "2048", "standard"): {"standard"},
    }
    merged = built(world, strata=["model", "hook"], filter={"hooks": [HOOK], "presets": ["quick"]})["strata"]
    assert [(s["width"], set(rows(s))) for s in merged] == [("all", narrow | {"wide"})]


def test_groups_have_a_stratum_of_their_own(world):
    world.add("pair=best,worst", "beta", name="group:pair", score=HIGH)
    single, groups = built(world)["strata"]
    assert "group:pair" not in rows(single)
    assert (groups["groups"], [row["group"] for row in groups["rows"]]) == (True, [True])
    assert single["id"] != groups["id"]


def test_a_row_that_has_no_number_to_show_is_not_shown(world):
    world.add("pairs=best,worst", "beta", name="group:pairs", **{"other": HIGH})
    assert len(built(world)["strata"]) == 1


def test_controls_alone_make_no_stratum(tmp_path):
    world = World(tmp_path)
    world.add("baseline:pca", "beta", control=True, score=HIGH)
    assert built(world, tasks={"beta": None})["strata"] == []


def test_failures_are_rows_that_say_why_and_need_a_hook(world):
    world.add("broken", "alpha", error="weights hold NaN", who={"sae_fingerprint": "x"})
    world.add("unloadable", "alpha", error="no such file", hook="", who={"sae_fingerprint": ""})
    data = built(world)
    broken = rows(data["strata"][0])["broken"]
    assert (broken["rank"], broken["completed"]) == (None, 0)
    assert broken["values"]["alpha/good"] == {
        "value": None, "ci_low": None, "ci_high": None, "n": None, "unit": "", "not_scored": "weights hold NaN"
    }  # fmt: skip
    assert [each["reason"] for each in data["left_out"]] == ["failed before its hook was known: no such file"]


def test_two_contents_under_one_name_are_two_rows(world):
    world.add("best", "beta", score=LOW, who={"sae_fingerprint": "retrained"})
    data = built(world)
    found = [row["id"] for row in data["strata"][0]["rows"] if row["sae"] == "best"]
    assert len(set(found)) == 2
    assert set(found) < set(data["saes"])


def test_the_same_records_give_the_same_bytes(world, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(world.folder, copy)
    first = to_json(built(world))
    assert first == to_json(build(board(), Collection([copy, world.folder])))
    assert json.loads(first)["strata"]


def test_the_hash_follows_numbers_and_definition(world):
    hashes = {built(world)["data_hash"], built(world, description="Other.")["data_hash"]}
    world.add("more", "beta", score=LOW)
    hashes.add(built(world)["data_hash"])
    assert len(hashes) == 3


def test_pages_of_saes(world):
    world.add("dense", "beta", score=HIGH, density=[0.0, 0.001, 0.1, 0.1])
    page = built(world)["saes"]["dense"]
    assert sum(page["densities"]["counts"]) == 3
    assert page["densities"]["dead"] == 1
    assert len(page["densities"]["edges"]) == len(page["densities"]["counts"]) + 1
    (record,) = page["records"]
    assert record["measurements"][0]["metric"] == "score"
    assert record["command"] == (
        f"saebench run --sae dense --tasks beta --model {MODEL} --preset quick --seed 0 --dtype bfloat16"
    )
    assert built(world)["saes"]["best"]["densities"] is None


def test_commands_of_groups_controls_and_other_parameters(world):
    changed = {"text": "jsonl:my file.jsonl", "scale": 3}
    world.add("pair=a,b", "beta", name="group:pair", score=HIGH)
    world.add("baseline:pca", "beta", control=True, score=HIGH)
    world.add("x", "alpha", good=HIGH, loss=LOW, preset="paper", who={"parameters": changed})
    saes = built(world)["saes"]
    commands = {page["sae"]: page["records"][0]["command"] for page in saes.values()}
    assert "--sae-group pair=a,b " in commands["group:pair"]
    assert commands["baseline:pca"].endswith(f"--hook {HOOK}")
    assert commands["x"].endswith(
        """--text 'jsonl:my file.jsonl'  # with --config, parameters: {"alpha": {"scale": 3}}"""
    )


@pytest.mark.parametrize(
    ("filter", "sentence"),
    [
        ({"models": ["asset:gemma-3-270"]}, r"has the model 'asset:gemma-3-270'. Did you mean 'asset:gemma-3-270m'\?"),
        ({"presets": ["quik"]}, r"has the preset 'quik'. Did you mean 'quick'\?"),
        ({"hooks": ["nowhere"]}, "has the hook 'nowhere'"),
    ],
)
def test_filters_that_match_nothing_are_refused(world, filter, sentence):
    with pytest.raises(UsageError, match=sentence):
        built(world, filter=filter)


def test_no_records_and_no_folder_are_refused(world, tmp_path):
    with pytest.raises(UsageError, match="There are no records of the tasks"):
        (tmp_path / "empty").mkdir()
        build(board(), Collection([tmp_path / "empty"]))
    with pytest.raises(UsageError, match="there is no such file or folder"):
        build(board(), Collection([tmp_path / "none"]))


def test_missing_arrays_are_not_passed_over(world):
    next(world.folder.rglob("best/beta/*.npz")).unlink()
    with pytest.warns(UserWarning, match="the file is missing"):
        data = built(world)
    assert [(each["sae"], each["task"]) for each in data["left_out"]] == [("best", "beta")]
    assert "the file is missing" in data["left_out"][0]["reason"]


@pytest.mark.parametrize(("d_sae", "width"), [(1, "1"), (640, "512"), (2048, "2048"), (3000, "4096"), (24576, "32768")])
def test_width_classes(d_sae, width):
    assert width_class(d_sae) == width
