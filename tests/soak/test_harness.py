"""The harnesses notice every kind of fault, and nothing where there is none."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor

import pytest

from tests.soak import faulty
from tests.soak.page import BEGIN, END, table, write
from tests.soak.pool import call
from tests.soak.state import State
from tests.soak.tally import Tally
from tests.soak.units import Sizes, units

FAULTY = {
    faulty.Tearing: "torn",
    faulty.Littering: "leftovers",
    faulty.Losing: "lost",
    faulty.Changing: "changed",
    faulty.Complaining: "undocumented",
    faulty.Outliving: "leftovers",
}


def test_careful_work_survives_every_kill(soak_pool: ProcessPoolExecutor):
    tally = soak_pool.submit(call, faulty.strike, faulty.Careful, 16).result()
    assert tally.faults == []
    assert sum(tally.kinds.values()) == 9  # one at each step of the work, some of which come after others
    assert tally.number >= 8
    assert tally.kinds["SIGKILL"] >= 6


@pytest.mark.parametrize(("kind", "fault"), FAULTY.items(), ids=lambda value: getattr(value, "__name__", value))
def test_faulty_work_is_noticed(soak_pool: ProcessPoolExecutor, kind: type[faulty.Careful], fault: str):
    tally = soak_pool.submit(call, faulty.strike, kind, 16 if kind is not faulty.Outliving else 1).result()
    assert getattr(tally, fault) > 0, tally


@pytest.mark.parametrize("name", faulty.MISDEEDS)
def test_the_judge_notices(soak_pool: ProcessPoolExecutor, name: str):
    _, kind, sentence = faulty.MISDEEDS[name]
    verdict = soak_pool.submit(call, faulty.misdeed, name).result()
    if not kind:
        assert verdict.faults == ()
    else:
        assert any(found == kind and sentence in told for found, told in verdict.faults), verdict


def test_a_soak_goes_on_where_it_ended(tmp_path):
    path, settings = tmp_path / "state.jsonl", {"seed": 0}
    tally = Tally(number=3, seconds=1.5)
    tally.fault("torn", "a file")
    tally.kinds["SIGKILL"] += 2
    State(path, settings).add("one", tally)
    with path.open("a") as file:
        file.write('{"unit": "two", "tal')  # ended in the middle of a line
    assert State(path, settings).done == {"one": tally}
    assert State(path, {"seed": 1}).done == {}


def test_the_page_shows_rows_and_sums(tmp_path):
    bad = Tally(number=1000, torn=2, seconds=90)
    text = table({"kills: run": bad, "kills: cache write": Tally(number=5), "fuzz: records": Tally(number=7)})
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
    assert rows[2] == ["**kills**", "1,005", "0", "2", "0", "0", "0", "0", "1.5"]
    assert [row[0] for row in rows[2:]] == ["**kills**", "run", "cache write", "**fuzz**", "records"]
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n")
    write(page, text)
    assert page.read_text() == f"before\n{BEGIN}\n\n{text}\n\n{END}\nafter\n"
    page.write_text("no markers")
    with pytest.raises(ValueError, match="no markers"):
        write(page, text)


def test_units_add_up_to_the_sizes():
    todo = units(Sizes(kills=200, processes=32, hostile=0, fuzz=200_000), 0)
    assert len({unit.name for unit in todo}) == len(todo)
    fuzzed = [unit for unit in todo if unit.row.startswith("fuzz")]
    assert sum(unit.arguments[-1] for unit in fuzzed) == 200_000
