"""The package as a package: light to import, one version, rooms that know only rooms below them."""

import importlib.metadata
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import saebench

ROOT = Path(__file__).parents[1]
HEAVY = ("torch", "transformers", "transformer_lens", "sae_lens", "pandas", "sklearn", "scipy", "datasets")


def _python(code: str) -> str:
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("statement", ["import saebench", "import saebench.cli.main", "import saebench.errors"])
def test_import_is_light(statement: str):
    loaded = json.loads(_python(f"{statement}; import json, sys; print(json.dumps(list(sys.modules)))"))
    assert not set(HEAVY) & set(loaded)


def test_run_is_found_only_when_asked_for():
    code = "import saebench, sys; before = 'saebench.api' in sys.modules; print(before, callable(saebench.run))"
    assert _python(code).split() == ["False", "True"]


def test_unknown_attribute():
    with pytest.raises(AttributeError, match="no attribute 'runn'"):
        saebench.runn  # noqa: B018


def test_version_is_one():
    assert importlib.metadata.version("saebench") == saebench.__version__
    assert f"\nversion: {saebench.__version__}\n" in (ROOT / "CITATION.cff").read_text()


def test_layering_holds():
    lint = Path(sys.executable).with_name("lint-imports")
    result = subprocess.run([lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout


def test_changelog_fragments_are_named_as_agreed():
    names = [path.name for path in (ROOT / "changelog.d").iterdir() if path.name != "README.md"]
    agreed = re.compile(r"[a-z0-9-]+\.(added|changed|fixed|removed|numbers)\.md")
    assert [name for name in names if not agreed.fullmatch(name)] == []


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"])
def test_links_between_pages_lead_somewhere(page: str):
    targets = re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / page).read_text())
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []
