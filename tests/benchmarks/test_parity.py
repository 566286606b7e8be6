"""What docs/adapters.md says holds for the SAEs of this version, and its example of a map runs as it is written."""

from __future__ import annotations

import re
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.parity.formats import FORMATS, examples_of, source_of
from benchmarks.parity.forwards import dictionary_learning, sae_lens
from benchmarks.parity.measure import relative
from benchmarks.parity.render import BLOCKS, TOLERANCE
from benchmarks.parity.wheels import Library, MissingLibraryError, make_importable
from benchmarks.record import BenchmarkResult, load_results
from saebench.errors import UsageError
from saebench.sae.base import LoadContext
from saebench.sae.reference import load_sae
from saebench.sae.registry import scheme_registry
from saebench.tasks.factory import create
from scripts import render_adapters
from tests.sae.affine.files import keep_largest, weights
from tests.sae.catalogue import CASES

PAGE = Path(__file__).parents[2] / "docs" / "adapters.md"
WIDEST = 120


@pytest.fixture(scope="module")
def result() -> BenchmarkResult:
    return load_results(render_adapters.RESULTS)["parity"]


def test_the_page_is_up_to_date() -> None:
    assert render_adapters.main(["--check"]) == 0


def test_every_format_of_saebench_was_measured(result: BenchmarkResult) -> None:
    measured = {m["scheme"] for m in result.measurements}
    formats = {name for name in scheme_registry().file_formats() if name != "file"}
    assert measured == formats == {name for form in FORMATS for name in form.schemes}
    assert {m["case"] for m in result.measurements} == set(CASES)
    assert all(source_of(name) and not source_of(name).startswith("http") for name in formats)


def test_no_difference_is_more_than_rounding(result: BenchmarkResult) -> None:
    for m in result.measurements:
        assert m["against"], m["case"]
        assert all(max(a["z"], a["xhat"]) < TOLERANCE for a in m["against"]), m["case"]


def test_at_least_25_formats_are_proven_and_the_others_have_a_reason(result: BenchmarkResult) -> None:
    counted = re.search(r"loads (\d+) of these (\d+) formats", BLOCKS["formats"](result))
    assert counted is not None
    assert int(counted[1]) >= 25
    assert int(counted[2]) == len(FORMATS) >= 30
    assert all(form.note for form in FORMATS if not form.schemes)


@pytest.mark.parametrize("name", CASES)
def test_the_measured_sae_is_the_one_of_this_version(result: BenchmarkResult, name: str, tmp_path: Path) -> None:
    (measured,) = (m for m in result.measurements if m["case"] == name)
    sae = load_sae(CASES[name](tmp_path / "sae").reference, LoadContext())
    assert measured["architecture"] == sae.architecture
    assert measured["capabilities"] == sorted(map(str, sae.capabilities))
    assert measured["several_sites"] == sae.hook.several


def test_the_tasks_that_measure_several_hook_points_are_those_of_this_version(result: BenchmarkResult) -> None:
    tasks = [name for name in result.settings["several_sites"] if create(name).several_sites]
    assert result.settings["several_sites"] == tasks == ["core"]


def test_references_to_copy_are_of_the_scheme_beside_them() -> None:
    for form in FORMATS:
        for scheme, example in examples_of(form).items():
            assert example.startswith(f"{scheme}:")


def test_lines_are_readable() -> None:
    assert [line for line in PAGE.read_text("utf-8").splitlines() if len(line) > WIDEST] == []


def test_the_map_of_the_page_serves_the_file_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = PAGE.read_text("utf-8")
    (program,), (text,) = (re.findall(rf"```{kind}\n(.*?)```", page, re.DOTALL) for kind in ("python", "yaml"))
    monkeypatch.chdir(tmp_path)
    W_enc, W_dec, b_enc, b_pre = weights((16, 48), (48, 16), (48,), (16,))
    exec(program, {"W_enc": W_enc, "W_dec": W_dec, "b_enc": b_enc, "b_pre": b_pre})
    Path("my.yaml").write_text(text)
    (reference,) = re.findall(r'saebench run --sae "(file:[^"]*)"', page)

    sae = load_sae(reference, LoadContext())

    x = torch.randn(32, 16, generator=torch.Generator().manual_seed(1))
    p = ((0.25 * x.double() - b_pre) @ W_enc.double() + b_enc).clamp(min=0)
    z = keep_largest(p, 5)
    assert relative(sae.encode(x), z) < TOLERANCE
    assert relative(sae.decode(sae.encode(x), x), (z @ W_dec.double() + b_pre) / 0.25) < TOLERANCE
    assert str(sae.hook) == "blocks.9.hook_resid_post"


def test_a_block_that_is_not_known_is_refused(result: BenchmarkResult) -> None:
    with pytest.raises(UsageError, match=r"no table 'format'. Did you mean 'formats'"):
        render_adapters.render("<!-- adapters:format -->\n<!-- /adapters -->", result)
    with pytest.raises(UsageError, match="one of them is missing"):
        render_adapters.render("<!-- adapters:formats -->\n", result)


def test_a_page_that_is_out_of_date_is_written_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- adapters:tasks -->\nold\n<!-- /adapters -->\n")
    assert render_adapters.main(["--check", "--page", str(page)]) == 1
    assert "out of date: page.md" in capsys.readouterr().err
    assert render_adapters.main(["--page", str(page)]) == 0
    assert "**A**: all" in page.read_text()
    assert render_adapters.main(["--check", "--page", str(page)]) == 0


def test_a_library_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingLibraryError, match=r"dictionary-learning 0.1.0 is not in .* nothing is compared"):
        make_importable(dictionary_learning.LIBRARY, tmp_path, download=False)


def test_a_wheel_is_unpacked_and_what_its_forward_pass_does_without_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with zipfile.ZipFile(tmp_path / "made_up_lib-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("made_up/__init__.py", "raise RuntimeError('not to be run')")
        wheel.writestr(
            "made_up/forward.py", "from made_up_plots import draw\n@draw(size=1)\ndef run(x): return x + 1\n"
        )
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    for name in ("made_up", "made_up.forward", "made_up_plots"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    make_importable(Library("made-up-lib", "1.0", ("made_up",), ("made_up_plots",)), tmp_path, download=False)

    from made_up import forward  # type: ignore[import-not-found]

    assert forward.run(1) == 2
    for name in ("made_up", "made_up.forward", "made_up_plots"):
        sys.modules.pop(name, None)


@pytest.mark.parametrize("name", ["gemma_scope", "qwen_scope", "sae_lens topk", "temporal"])
def test_saelens_itself_agrees(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for function in ("hf_hub_download", "get_safetensors_tensor_shapes"):  # are replaced by local ones
        monkeypatch.setattr(sae_lens.loaders, function, getattr(sae_lens.loaders, function))
    case: Any = CASES[name](tmp_path / "sae")
    sae = load_sae(case.reference, LoadContext())
    with torch.no_grad():
        z, xhat = sae_lens.forward(name, case)
        assert relative(sae.encode(case.x), z) < TOLERANCE
        assert relative(sae.decode(sae.encode(case.x), case.x), xhat) < TOLERANCE
