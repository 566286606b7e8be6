import json

import pytest

from saebench.data.parallel import BUILTIN
from scripts.check_parallel import main

ROWS = [json.loads(line) for line in BUILTIN["everyday"].read_text(encoding="utf-8").splitlines()]

# What is done to row n, and what must then be said. One file has all of them: a run takes a second or two.
FAULTS = [
    (0, {"en": "Too short, this one."}, "train-home-1: 4 English words"),
    (1, {"fr": ROWS[1]["it"]}, f"fr: taken for it: {ROWS[1]['it']}"),
    (2, {"ru": ROWS[2]["ru"] + " Yes."}, "ru: train-home-3: letters that are not CYRILLIC: Yes"),
    (3, {"zh": ROWS[3]["zh"].rstrip("。")}, "zh: train-home-4: no full stop"),
    (4, {"es": ROWS[4]["es"].replace(".", "?")}, "es: train-food-1: a question in only one of the two languages"),
    (5, {"de": ROWS[5]["de"].replace(" ", "  ", 1)}, "de: train-food-2: white space"),
    (6, {"de": ROWS[6]["de"] * 3}, "de: train-food-3: 2."),
    (7, {"pt": ROWS[8]["pt"].replace("trânsito", "congestionamento")}, "pt: train-food-4 and train-travel-1 are 0."),
    (9, {"id": "train-travel-3"}, "train-travel-3: 2 rows have this id"),
    (11, {"topic": "food"}, "train: topics are not even"),
    (12, {"split": "test"}, "train: 63 rows instead of 64"),
]


def test_built_in_set_passes(capsys):
    assert main([]) == 0
    assert capsys.readouterr().out == "everyday.jsonl: 0 findings\n"


def test_each_fault_is_found(tmp_path, capsys):
    rows = list(ROWS)
    for number, change, _ in FAULTS:
        rows[number] = {**rows[number], **change}
    path = tmp_path / "changed.jsonl"
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows), encoding="utf-8")
    assert main([str(path)]) == 1
    shown = capsys.readouterr().out
    assert [finding for _, _, finding in FAULTS if finding not in shown] == []


@pytest.mark.parametrize(
    ("rows", "message"),
    [([], "has no rows"), (ROWS[:2], "0 rows in the split 'validation'")],
)
def test_file_that_is_no_set_is_an_error(tmp_path, capsys, rows, message):
    path = tmp_path / "set.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert main([str(path)]) == 2
    assert message in capsys.readouterr().err


def test_rows_without_a_topic_are_an_error(tmp_path, capsys):
    path = tmp_path / "set.jsonl"
    path.write_text("\n".join(json.dumps({k: v for k, v in row.items() if k != "topic"}) for row in ROWS), "utf-8")
    assert main([str(path)]) == 2
    assert "every row needs an 'id', a 'topic'" in capsys.readouterr().err
