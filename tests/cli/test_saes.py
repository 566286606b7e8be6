"""``saebench saes``: the zoo, the controls, the schemes of references, and SAELens' releases."""

from __future__ import annotations

import json
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from saebench.sae import registry as registry_module
from saebench.sae import zoo
from saebench.sae.registry import GROUP, scheme_registry
from saebench.sae.sae_lens_scheme import sae_lens_releases
from tests.cli.conftest import Invoke


def test_zoo_and_controls(invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    card = {"architecture": "topk", "k": 32, "fvu": 0.0951234, "group": "a"}
    (tmp_path / "zoo.json").write_text(json.dumps({"topk-x": card}))
    monkeypatch.setattr(zoo, "ZOO_DIR", tmp_path)
    page = invoke("saes").stdout
    row = next(line for line in page.splitlines() if line.startswith("zoo:topk-x"))
    assert row.split() == ["zoo:topk-x", "topk", "32", "0.09512"]
    for control in ("pca", "neurons", "random", "permuted-decoder(REF)"):
        assert f"\nbaseline:{control} " in page


def test_empty_zoo(invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(zoo, "ZOO_DIR", tmp_path)
    assert "none in this installation" in invoke("saes").stdout


def test_sae_lens_releases(invoke: Invoke):
    releases = sae_lens_releases()
    assert len(invoke("saes", "--sae-lens").stdout.splitlines()) == len(releases)
    filtered = invoke("saes", "--sae-lens", "gemma-scope-2b-pt-RES").stdout.splitlines()
    assert 0 < len(filtered) < len(releases)
    exact = invoke("saes", "--sae-lens", "gpt2-small-res-jb").stdout.splitlines()
    assert len(exact) == len(releases["gpt2-small-res-jb"])
    assert "sae_lens:gpt2-small-res-jb/blocks.8.hook_resid_pre" in exact


def test_unknown_release(invoke: Invoke):
    result = invoke("saes", "--sae-lens", "gpt2-smal-res-jb")
    assert result.exit_code == 2
    assert "Did you mean 'gpt2-small-res-jb'?" in result.stderr


class TestSearch:
    def test_every_word_must_fit(self, invoke: Invoke):
        lines = invoke("saes", "--search", "GEMMA-2-2b  res 16k layer_12/").stdout.splitlines()
        assert lines[4:6] == [
            "sae_lens:gemma-scope-2b-pt-res/layer_12/width_16k/average_l0_82",
            "    blocks.12.hook_resid_post, 16,384 latents, L0 82, gemma-2-2b",
        ]
        assert len(lines) == 12
        assert "L0 82" in lines[-1]  # the canonical one, whose id does not tell it
        [zoo_sae, facts] = invoke("saes", "--search", "zoo k64 blocks.9").stdout.splitlines()
        assert zoo_sae == "zoo:topk-k64-s0"
        assert facts == "    blocks.9.hook_resid_post, 2,048 latents, L0 64, asset:gemma-3-270m"

    def test_many(self, invoke: Invoke):
        lines = invoke("saes", "--search", "gemma-scope-2 transcoder").stdout.splitlines()
        assert lines[-1].endswith(" more; add words, or --format csv for all of them.")
        assert sum(line.startswith("sae_lens:") for line in lines) == 20
        # A reference is never broken, so that it can be copied.
        assert all(len(line) <= 80 or line.startswith("sae_lens:") for line in lines)

    def test_none(self, invoke: Invoke):
        result = invoke("saes", "--search", "gemma nosuchthing")
        assert result.exit_code == 2
        assert "No SAE of the zoo or of SAELens' directory fits 'gemma nosuchthing'" in result.stderr

    def test_other_formats_hold_all(self, invoke: Invoke):
        rows = json.loads(invoke("saes", "--search", "gemma-scope-2 transcoder", "--format", "json").stdout)
        assert len(rows) > 1000
        assert rows[0].keys() == {"reference", "model", "hook", "d_sae", "l0"}
        lines = invoke("saes", "--search", "zoo:", "--format", "csv").stdout.splitlines()
        assert lines[0] == "reference,model,hook,d_sae,l0"
        assert lines[1].startswith("zoo:topk-k32-s0,asset:gemma-3-270m,blocks.9.hook_resid_post,2048,")
        assert json.loads(invoke("saes", "--search", "nosuchthing", "--format", "json").stdout) == []

    def test_options_that_do_not_go_together(self, invoke: Invoke):
        for options in (["--format", "json"], ["--search", "x", "--sae-lens", "y"]):
            assert invoke("saes", *options).exit_code == 2


def test_every_form_with_its_options(invoke: Invoke):
    page = invoke("saes").stdout
    assert max(map(len, page.splitlines())) <= 80
    words = " ".join(page.split())
    for scheme in registry_module.BUILT_IN:
        for form in scheme.forms:
            options = f" ({', '.join(form.options)})" if form.options else ""
            entry = f"{scheme.name}:{form.body} {form.description}{options}"
            assert words.count(" ".join(entry.split())) == 1
    assert "\nseed                              a whole number, 0 or more\n" in page


def test_schemes_of_other_packages(invoke: Invoke, monkeypatch: pytest.MonkeyPatch):
    points = [
        EntryPoint("mine", "tests.sae.test_registry:MINE", GROUP),
        EntryPoint("zoo", "tests.sae.test_registry:MINE", GROUP),
        EntryPoint("absent", "no_such_package.saes:SCHEME", GROUP),
    ]
    with monkeypatch.context() as patch:
        patch.setattr(registry_module, "entry_points", lambda group: points)
        scheme_registry.cache_clear()
        words = " ".join(invoke("saes").stdout.split())
    scheme_registry.cache_clear()
    assert "mine:NAME an SAE of mine (width) (from an unknown package)" in words
    assert "width a whole number above 0" in words
    assert "zoo: cannot be used: the name 'zoo' is taken by saebench (from an unknown package)" in words
    assert (
        "absent: cannot be used: ModuleNotFoundError: No module named 'no_such_package' (from an unknown package)"
        in words
    )
