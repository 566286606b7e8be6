from __future__ import annotations

import subprocess
import sys
from datetime import UTC, timedelta
from pathlib import Path

import pytest

from saebench.results import provenance
from saebench.results.record import Provenance


def git(folder: Path, *arguments: str) -> str:
    identity = ["-c", "user.name=T", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
    return subprocess.check_output(["git", "-C", str(folder), *identity, *arguments], text=True).strip()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A repository that holds a package ``saebench``; returns the package's folder."""
    package = tmp_path / "saebench"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "core.yaml").write_text("")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    provenance.harness_git.cache_clear()
    return package


def test_collect_describes_this_process():
    found = provenance.collect(device="cpu", wall_seconds=1.5, arguments={"limit": 3})
    assert found.created.utcoffset() == timedelta(0)
    assert found.created.tzinfo is UTC
    assert found.wall_seconds == 1.5
    assert found.arguments == {"limit": 3}
    assert found.device.startswith("cpu")
    assert set(found.packages) <= set(provenance.PACKAGES)
    assert {"torch", "numpy", "pandas"} <= set(found.packages)
    assert found.peak_memory_mb is not None
    assert 20 < found.peak_memory_mb < 1e6
    assert Provenance.model_validate_json(found.model_dump_json()) == found


def test_peak_memory_follows_an_allocation():
    code = (
        "from saebench.results.provenance import peak_memory_mb;"
        "before = peak_memory_mb(); block = b'x' * (int(before * 1e6) + 50_000_000); print(peak_memory_mb() - before)"
    )
    assert float(subprocess.check_output([sys.executable, "-c", code], text=True)) > 40


def test_commit_of_the_checkout(checkout):
    state = provenance.harness_git(checkout)
    assert state is not None
    assert state.commit == git(checkout, "rev-parse", "HEAD")
    assert not state.dirty


@pytest.mark.parametrize(
    ("path", "dirty"),
    [("saebench/__init__.py", True), ("saebench/new.py", True), ("tasks/core.yaml", True), ("results/a.json", False)],
)
def test_only_code_and_cards_make_it_dirty(checkout, path, dirty):
    changed = checkout.parent / path
    changed.parent.mkdir(exist_ok=True)
    changed.write_text("changed = True\n")
    state = provenance.harness_git(checkout)
    assert state is not None
    assert state.dirty is dirty


def test_a_package_installed_inside_a_users_repository_has_no_commit(checkout):
    installed = checkout.parent / ".venv" / "lib" / "site-packages" / "saebench"
    installed.mkdir(parents=True)
    (installed / "__init__.py").write_text("")
    assert provenance.harness_git(installed) is None


def test_an_untracked_package_has_no_commit(tmp_path):
    git(tmp_path, "init", "-q")
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "users work")
    package = tmp_path / "saebench"
    package.mkdir()
    (package / "__init__.py").write_text("")
    assert provenance.harness_git(package) is None


def test_no_repository_no_commit(tmp_path):
    assert provenance.harness_git(tmp_path / "saebench") is None


def test_the_variables_of_a_git_hook_do_not_mislead(checkout, tmp_path_factory, monkeypatch):
    users = tmp_path_factory.mktemp("users")
    git(users, "init", "-q")
    git(users, "commit", "-q", "--allow-empty", "-m", "users work")
    expected = git(checkout, "rev-parse", "HEAD")
    monkeypatch.setenv("GIT_DIR", str(users / ".git"))
    state = provenance.harness_git(checkout)
    assert state is not None
    assert state.commit == expected


def test_without_git_there_is_no_commit(checkout, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert provenance.harness_git(checkout) is None
