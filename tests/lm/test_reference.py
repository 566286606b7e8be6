"""References to language models are checked before anything is loaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from saebench.errors import UsageError
from saebench.lm.reference import parse_lm_ref


def test_hub_reference_with_and_without_revision():
    assert (parse_lm_ref("hf:org/name").name, parse_lm_ref("hf:org/name").revision) == ("org/name", None)
    ref = parse_lm_ref("hf:org/name@v1.0")
    assert (ref.scheme, ref.name, ref.revision, str(ref)) == ("hf", "org/name", "v1.0", "hf:org/name@v1.0")


@pytest.mark.parametrize("text", ["hf:", "hf:name", "hf:/name", "hf:org/", "hf:a/b/c", "hf:@main"])
def test_bad_hub_reference(text: str):
    with pytest.raises(UsageError, match="hf:ORG/NAME"):
        parse_lm_ref(text)


def test_asset_reference_needs_no_download():
    ref = parse_lm_ref("asset:gemma-3-270m")
    assert (ref.scheme, ref.name) == ("asset", "gemma-3-270m")


def test_unknown_asset_gets_did_you_mean():
    with pytest.raises(UsageError, match="gemma-3-270m"):
        parse_lm_ref("asset:gemma-3-270")


def test_folder(tiny_llama_dir: Path, monkeypatch: pytest.MonkeyPatch):
    ref = parse_lm_ref(str(tiny_llama_dir))
    assert (ref.scheme, Path(ref.name)) == ("path", tiny_llama_dir)
    monkeypatch.setenv("HOME", str(tiny_llama_dir.parent))
    assert Path(parse_lm_ref(f"~/{tiny_llama_dir.name}").name) == tiny_llama_dir


def test_folder_with_a_colon_in_its_name(tmp_path: Path):
    folder = tmp_path / "a:b"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    assert parse_lm_ref(str(folder)).scheme == "path"


def test_folder_without_a_model(tmp_path: Path):
    with pytest.raises(UsageError, match=r"folder without config\.json"):
        parse_lm_ref(str(tmp_path))


@pytest.mark.parametrize("text", ["", "gpt2", "no/such/folder", "http://example.com/model"])
def test_neither_scheme_nor_folder(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError):
        parse_lm_ref(text)
