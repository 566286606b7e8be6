"""Every hostile SAE of the corpus in one plan with a good one, which is measured as if it were alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from saebench import errors
from tests.cli.conftest import Inputs, Invoke
from tests.hostile.case import EXECUTED
from tests.hostile.sae_folder import FAILED, REFUSED, SCORED
from tests.hostile.saes import saes

OURS = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, Exception)}


def records(out: Path) -> dict[str, dict[str, Any]]:
    """By SAE reference."""
    found = [json.loads(file.read_text("utf-8")) for file in out.rglob("*.json")]
    return {record["identity"]["sae"]: record for record in found}


def measured(record: dict[str, Any]) -> dict[str, Any]:
    return {m["metric"]: m["value"] for m in record["measurements"]}


def test_hostile_saes_fail_with_a_sentence_and_the_good_one_is_measured(
    invoke: Invoke, inputs: Inputs, tmp_path: Path
) -> None:
    named = {sae: sae.write(tmp_path / str(number)) for number, sae in enumerate(saes()) if sae.codes != REFUSED}
    references = list(named.values())
    references.insert(len(references) // 2, inputs.good)
    options = ["--limit", "4", "--cache-budget", "0"]
    among = [part for reference in references for part in ("--sae", reference)]
    result = invoke("run", *inputs.arguments, *options, *among, "--out", tmp_path / "out")
    assert result.exit_code == 1, result.output[-3000:]
    assert "Traceback" not in result.output
    assert not list(tmp_path.rglob(EXECUTED))

    alone = invoke("run", *inputs.arguments, *options, "--sae", inputs.good, "--out", tmp_path / "alone")
    assert alone.exit_code == 0, alone.output
    found = records(tmp_path / "out")
    assert measured(found[inputs.good]) == measured(records(tmp_path / "alone")[inputs.good])

    faults = []
    for sae, reference in named.items():
        record = found[reference]
        status, error = record["status"], record["error"]
        if status == "failed" and record["error_type"] not in OURS:
            faults.append(f"{sae.name}: {record['error_type']}: {error}")
        if sae.codes in (FAILED, SCORED) and status != ("failed" if sae.codes == FAILED else "ok"):
            faults.append(f"{sae.name}: {status}: {error}")
        if sae.codes == FAILED and sae.says and not any(part in error for part in sae.says):
            faults.append(f"{sae.name} says none of {sae.says}: {error}")
        if not error.isprintable() or len(error) > 1000:
            faults.append(f"{sae.name}: {error!r}")
    assert faults == []


@pytest.mark.parametrize("sae", [sae for sae in saes() if sae.codes == REFUSED], ids=lambda sae: sae.name)
def test_references_that_name_nothing_are_refused_at_once(
    invoke: Invoke, inputs: Inputs, tmp_path: Path, no_model: None, sae: Any
) -> None:
    references = ("--sae", sae.write(tmp_path), "--sae", inputs.good)
    result = invoke("run", *inputs.arguments, *references, "--out", tmp_path / "out")
    assert result.exit_code == 2, result.output
    assert not sae.says or any(part in result.output for part in sae.says), result.output
    assert "Traceback" not in result.output


def test_there_are_enough_of_them() -> None:
    names = [sae.name for sae in saes()]
    assert len(names) == len(set(names)) >= 160
