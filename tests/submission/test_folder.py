"""Folders of records with one thing wrong each: it is found, and nothing else is."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from saebench.cards.registry import registry
from saebench.errors import UsageError
from saebench.results.identity import record_id
from saebench.results.record import Identity, Measurement, Record, Status
from saebench.results.store import ResultStore
from saebench.submission import folder as submission
from saebench.submission.folder import MAX_JSON_BYTES, Finding, check_folder
from tests.results.conftest import make_identity, make_number, make_record

CORE = registry().card("core")
NUM, DEN = np.array([1.0, 2.0, 3.0]), np.array([10.0, 10.0, 10.0])
FVU = make_number("fvu", 0.2, 0.1, 0.3, stderr=0.05, n=3, contributions="fvu")


def identity(**changes: Any) -> Identity:
    values = {"task_version": CORE.version, "parameters": CORE.resolve("quick")}
    return make_identity(**(values | changes))


def good(**changes: Any) -> Record:
    record = make_record(identity(), measurements=[FVU, make_number("l0", 32.0)])
    return record.model_copy(update=changes)


def put(root: Path, record: Record, **arrays: np.ndarray) -> Path:
    """Writes what `ResultStore.write` would refuse."""
    path = ResultStore(root).path(record)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(record.model_dump_json(), "utf-8")
    np.savez(path.with_suffix(".npz"), **(arrays or {"fvu.num": NUM, "fvu.den": DEN}))
    return path


def check(root: Path) -> list[Finding]:
    return list(check_folder(root).findings)


def only(root: Path) -> str:
    [finding] = check(root)
    assert not finding.warning
    return finding.message


def rewrite(path: Path, change: Callable[[dict[str, Any]], None]) -> None:
    content = json.loads(path.read_text("utf-8"))
    change(content)
    path.write_text(json.dumps(content), "utf-8")


def test_what_the_store_writes_passes(tmp_path: Path):
    store = ResultStore(tmp_path)
    store.write(good(), {"fvu.num": NUM, "fvu.den": DEN, "density.edges": np.arange(3)})
    not_scored = make_number("ce_recovered_mean", None, not_scored="ablation does not hurt")
    store.write(make_record(identity(seed=1), measurements=[not_scored]))
    store.write(make_record(identity(sae="zoo:other"), status=Status.NOT_APPLICABLE, error="no decoder"))
    report = check_folder(tmp_path)
    assert report.findings == ()
    assert report.records == 3


def numbers(*changed: Measurement) -> dict[str, Any]:
    return {"measurements": list(changed)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"record_id": "0" * 16}, "but its identity gives"),
        (numbers(), "it holds no numbers"),
        (numbers(FVU, FVU), "fvu appears 2 times"),
        (numbers(FVU.model_copy(update={"not_scored": "why"})), "a reason why it has none"),
        (numbers(FVU.model_copy(update={"value": None})), "no value and no reason"),
        (numbers(FVU.model_copy(update={"stderr": -1.0})), "its stderr is -1.0"),
        (numbers(FVU.model_copy(update={"ci_low": 0.25})), "outside its interval"),
        (numbers(FVU.model_copy(update={"ci_low": None})), "only one end"),
        (numbers(FVU.model_copy(update={"n": 2})), "there are 3 contributions, but n is 2"),
        (numbers(FVU.model_copy(update={"value": 0.2001})), "give 0.2, but the record says 0.2001"),
        (numbers(FVU.model_copy(update={"contributions": "mse"})), "'mse.num' and 'mse.den' are not both present"),
        (numbers(make_number("fvu", -0.5)), "fvu is -0.5, outside the card's bounds [0, open]"),
        (numbers(make_number("fvuu", 0.5)), "no metric 'fvuu'. Did you mean 'fvu'?"),
        ({"preset": "slow"}, "no preset 'slow'"),
        ({"status": Status.FAILED, "measurements": [], "error": ""}, "does not say why"),
        ({"status": Status.NOT_APPLICABLE, "error": "no decoder"}, "but it holds numbers"),
        ({"counts": {"/home/jane/x": 1}}, "counts holds a path of one machine"),
        ({"error_type": "mail jane@example.org"}, "error_type holds an e-mail address"),
    ],
)
def test_one_thing_wrong(changes: dict[str, Any], message: str, tmp_path: Path):
    put(tmp_path, good(**changes))
    errors = [finding.message for finding in check(tmp_path) if not finding.warning]
    assert len(errors) == 1, errors
    assert message in errors[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task_version": CORE.version + 1}, f"the current version is {CORE.version}"),
        ({"parameters": {}}, "identity.parameters lacks "),
        ({"parameters": CORE.resolve("quick") | {"sequences": "many"}}, "'sequences' of task 'core' must be"),
        ({"parameters": CORE.resolve("quick") | {"sequencs": 1}}, "Did you mean 'sequences'?"),
        ({"sae_fingerprint": ""}, "identity.sae_fingerprint is '', not a SHA-256"),
        ({"data": {"asset:x": "abc"}}, "identity.data[asset:x] is 'abc', not a SHA-256"),
        ({"sae": "sae_lens:/home/jane/sae"}, "holds a path of one machine"),
        ({"model": "hf:org/name?token=hf_" + "aB3" * 11}, "identity.model holds an access token"),
    ],
)
def test_one_thing_wrong_in_the_identity(changes: dict[str, Any], message: str, tmp_path: Path):
    put(tmp_path, make_record(identity(**changes), measurements=[FVU]))
    messages = [finding.message for finding in check(tmp_path)]
    assert any(message in found for found in messages), messages


def test_unknown_task_is_a_warning(tmp_path: Path):
    put(tmp_path, make_record(identity(task="cor"), measurements=[FVU]))
    [finding] = check(tmp_path)
    assert finding.warning
    assert "Did you mean 'core'?" in finding.message


def test_warnings(tmp_path: Path):
    record = make_record(identity(), status=Status.FAILED, error="weights hold NaN")
    put(tmp_path, record.model_copy(update={"provenance": record.provenance.model_copy(update={"git_dirty": True})}))
    findings = check(tmp_path)
    assert [finding.warning for finding in findings] == [True, True]


@pytest.mark.parametrize(
    ("created", "message"),
    [
        (datetime(2026, 1, 2), "no time zone"),
        (datetime.now(UTC) + timedelta(days=30), "is in the future"),
    ],
)
def test_times(created: datetime, message: str, tmp_path: Path):
    record = good()
    put(tmp_path, record.model_copy(update={"provenance": record.provenance.model_copy(update={"created": created})}))
    assert message in only(tmp_path)


def test_identity_edited_afterwards(tmp_path: Path):
    path = put(tmp_path, good())
    rewrite(path, lambda content: content["identity"].update(seed=5))
    assert f"its id is {path.stem}, but its identity gives" in only(tmp_path)


def test_a_key_twice(tmp_path: Path):
    path = put(tmp_path, good())
    path.write_text(path.read_text("utf-8").replace('"preset"', '"preset": "quick", "preset"'), "utf-8")
    assert only(tmp_path) == "has a key twice in one object"


def test_places(tmp_path: Path):
    path = put(tmp_path, good())
    expected = path.relative_to(tmp_path).as_posix()
    copy = tmp_path / "0" / path.name  # it comes before the record in the right place
    copy.parent.mkdir()
    copy.write_bytes(path.read_bytes())
    copy.with_suffix(".npz").write_bytes(path.with_suffix(".npz").read_bytes())
    assert {(finding.path, finding.message) for finding in check(tmp_path)} == {
        (f"0/{path.name}", f"belongs at {expected}"),
        (expected, f"is a second copy of the record 0/{path.name}"),
    }


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("notes.txt", "is not a record"),
        (".DS_Store", "is not a record"),
        ("data.json", "is not a record"),
        ("0123456789abcdef.npz", "arrays of a record that is missing"),
    ],
)
def test_foreign_files(name: str, message: str, tmp_path: Path):
    put(tmp_path, good())
    (tmp_path / name).write_bytes(b"x")
    assert message in only(tmp_path)


def test_links(tmp_path: Path):
    put(tmp_path / "in", good())
    (tmp_path / "outside").mkdir()
    (tmp_path / "in" / "link").symlink_to(tmp_path / "outside")
    assert "is a link" in only(tmp_path / "in")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "is not valid JSON"),
        ("[" * 100_000, "more than 64 deep"),
        ("[]", "is not a record"),
        ('{"schema_version": 99}', "written by a newer saebench (its schema version is 99"),
        ('{"a": NaN}', "a is nan"),
        ('{"a": -Infinity}', "a is -inf"),
        ('{"a": 1e999}', "a is inf"),
        ("\udcff", "not UTF-8"),
        (" " * (MAX_JSON_BYTES + 1), "is larger than 2,000,000 bytes"),
    ],
)
def test_files_that_are_no_records(text: str, message: str, tmp_path: Path):
    (tmp_path / f"{'0' * 16}.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    assert message in only(tmp_path)


@pytest.mark.parametrize("extra", [{"secret": 1}, {"status": "fine"}])
def test_schema(extra: dict[str, Any], tmp_path: Path):
    path = put(tmp_path, good())
    rewrite(path, lambda content: content.update(extra))
    message = only(tmp_path)
    assert message.startswith("is not a record: ")
    assert next(iter(extra)) in message


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"fvu.num": NUM, "fvu.den": DEN[:2]}, "not two lists of numbers of one length"),
        ({"fvu.num": NUM[None], "fvu.den": DEN[None]}, "not two lists of numbers of one length"),
        ({"fvu.num": NUM, "fvu.den": np.array(["a", "b", "c"])}, "not two lists of numbers of one length"),
        ({"fvu.num": NUM * np.nan, "fvu.den": DEN}, "hold NaN or infinity"),
        ({"fvu.num": NUM, "fvu.den": DEN * 0}, "give no finite number"),
        ({"fvu.num": NUM * 4e307, "fvu.den": DEN}, "give no finite number"),
        ({"fvu.num": NUM, "fvu.den": DEN, "x": np.array(["/home/jane/x"])}, "x[0] holds a path of one machine"),
        ({"fvu.num": NUM, "fvu.den": DEN, "x": NUM + 1j}, "only numbers and text"),
        ({"fvu.num": NUM, "fvu.den": DEN, "x": np.array([{}])}, "cannot be read as arrays"),
    ],
)
def test_arrays(arrays: dict[str, np.ndarray], message: str, tmp_path: Path):
    put(tmp_path, good(), **arrays)
    assert message in only(tmp_path)


def test_large_arrays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(submission, "MAX_ARRAYS_BYTES", 10_000)
    path = put(tmp_path, good())
    zeros = np.zeros(110_000, np.uint8)
    np.savez(path.with_suffix(".npz"), x=zeros)
    assert " bytes; " in only(tmp_path)
    np.savez_compressed(path.with_suffix(".npz"), x=zeros)
    assert "unpacks to more than" in only(tmp_path)


@pytest.mark.parametrize("content", [b"", b"PK", b"x" * 1000])
def test_damaged_arrays(content: bytes, tmp_path: Path):
    path = put(tmp_path, good())
    path.with_suffix(".npz").write_bytes(content)
    assert "cannot be read as arrays" in only(tmp_path)


def test_other_files_inside_the_arrays(tmp_path: Path):
    path = put(tmp_path, good())
    with zipfile.ZipFile(path.with_suffix(".npz"), "a") as archive:
        archive.writestr("run.py", "print()")
    assert "not an array" in only(tmp_path)


def test_rounding_is_no_contradiction(tmp_path: Path):
    """A difference of large terms keeps fewer digits than its terms."""
    num, den = np.array([1e6, -1e6 + 0.3]), np.ones(2)
    number = make_number("fvu", 0.15 + 1e-7, n=2, contributions="fvu")
    put(tmp_path, good(measurements=[number]), **{"fvu.num": num, "fvu.den": den})
    assert check(tmp_path) == []


def test_no_folder(tmp_path: Path):
    with pytest.raises(UsageError, match="There is no folder"):
        check_folder(tmp_path / "none")


def test_ids_in_these_tests_are_real():
    assert good().record_id == record_id(good().identity)
