"""Definitions of boards: what is right, and one clear sentence for what is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from saebench.cards.audits import Grade
from saebench.errors import UsageError
from saebench.leaderboard.board import find_board, load_board
from tests.leaderboard.world import board

GOOD = "name: mine\ntitle: T\ndescription: D\ntasks:\n  alpha:\n  beta: {columns: [score]}\n"


def write(folder: Path, text: str, name: str = "mine.yaml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def ids(specs) -> list[str]:
    return [spec.id for spec in specs]


@pytest.mark.usefixtures("made_up_cards")
def test_defaults_come_from_the_card(tmp_path):
    made = load_board(write(tmp_path, GOOD))
    assert made.strata == ["model", "hook", "width"]
    assert ids(made.ranked("alpha")) == ["good", "loss"], "primary, with a direction, and not marked unreliable"
    assert ids(made.columns("alpha")) == ["good", "loss"]
    made.check()


@pytest.mark.usefixtures("made_up_cards")
def test_a_board_may_choose_columns_and_what_decides():
    made = board(tasks={"alpha": {"columns": ["plain", "shaky"], "ranked": ["extra"]}})
    assert ids(made.columns("alpha")) == ["plain", "shaky", "extra"]
    assert ids(made.ranked("alpha")) == ["extra"]
    made.check()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (GOOD.replace("title: T", "titel: T"), r"titel: unknown key. Did you mean 'title'\?"),
        (GOOD + "filter: {model: [a]}\n", r"filter.model: unknown key. Did you mean 'models'\?"),
        (GOOD.replace("{columns", "{column"), r"tasks.beta.column: unknown key. Did you mean 'columns'\?"),
        (GOOD.replace("name: mine", "name: other"), "its name is 'other' but the file is called 'mine.yaml'"),
        (GOOD.replace("name: mine", "name: ../up"), "name: String should match pattern"),
        (GOOD + "strata: [model, width]\n", "strata: 'hook' is missing"),
        (GOOD + "rank_rule: mean\n", "rank_rule: Input should be 'mean rank'"),
        (GOOD.partition("tasks")[0] + "tasks: {}\n", "tasks: Dictionary should have at least 1 item"),
        ("- a\n", "must hold keys such as `name` and `tasks`, not a list"),
        ("a: [", "is not valid YAML"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, text, sentence):
    with pytest.raises(UsageError, match=sentence) as caught:
        load_board(write(tmp_path, text))
    assert "mine.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UsageError, match="No such file"):
        load_board(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("tasks", "sentence"),
    [
        ({"alpah": None}, r"tasks.alpah: There is no task 'alpah'. Did you mean 'alpha'\?"),
        ({"alpha": {"columns": ["godo"]}}, r"has no metric 'godo'. Did you mean 'good'\?"),
        ({"alpha": {"ranked": ["los"]}}, r"has no metric 'los'. Did you mean 'loss'\?"),
        ({"alpha": {"ranked": ["plain"]}}, "'plain' has no direction"),
        ({"alpha": {"ranked": ["shaky"]}}, "marks 'shaky' as too unreliable to rank by"),
    ],
)
@pytest.mark.usefixtures("made_up_cards")
def test_what_does_not_fit_the_cards_is_named(tasks, sentence):
    with pytest.raises(UsageError, match=sentence):
        board(tasks=tasks).check()


def test_boards_are_found_by_name_or_file(tmp_path):
    path = write(tmp_path, GOOD)
    assert find_board("mine", tmp_path) == find_board(str(path), Path("nowhere")) == load_board(path)
    with pytest.raises(UsageError, match=r"There is no board 'mien'; .* are mine.* Did you mean 'mine'\?"):
        find_board("mien", tmp_path)
    with pytest.raises(UsageError, match="there are no boards in"):
        find_board("mine", tmp_path / "empty")


def test_published_definitions_fit_the_cards():
    definitions = sorted((Path(__file__).parents[2] / "leaderboards").glob("*.yaml"))
    assert definitions
    for path in definitions:
        load_board(path).check()


@pytest.mark.usefixtures("made_up_cards")
def test_boards_rank_by_the_grades_a_and_b_only(grades):
    grades["good"] = Grade("C", "Degenerate SAEs win: adversary:norm.")
    grades["loss"] = Grade("B", "It is noisy.")
    assert ids(board(tasks={"alpha": {}}).ranked("alpha")) == ["loss"]


@pytest.mark.usefixtures("made_up_cards")
def test_a_board_cannot_rank_by_the_grade_c(grades):
    grades["extra"] = Grade("C", "Degenerate SAEs win: adversary:norm.")
    with pytest.raises(
        UsageError, match=r"the grade C, by which no SAE is ranked \(Degenerate SAEs win: adversary:norm\)"
    ):
        board(tasks={"alpha": {"columns": ["good"], "ranked": ["extra"]}}).check()


@pytest.mark.usefixtures("made_up_cards")
def test_what_was_not_audited_ranks_only_where_a_board_names_it(monkeypatch):
    monkeypatch.setattr("saebench.leaderboard.board.grade_of", lambda *_: None)
    assert board(tasks={"alpha": {}}).ranked("alpha") == []
    named = board(tasks={"alpha": {"columns": ["good"], "ranked": ["extra"]}})
    assert ids(named.ranked("alpha")) == ["extra"]
    named.check()
