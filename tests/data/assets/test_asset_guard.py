"""A killed pull leaves no program behind, and the next pull removes what it has left on the disk."""

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from saebench.data.assets.cache import AssetCache
from saebench.data.assets.fetch import run_watched
from saebench.data.assets.guard import guarded
from saebench.data.assets.staging import OLD
from saebench.errors import AssetError
from saebench.progress import NullProgress

QUIET = NullProgress()
PATIENCE = 120  # seconds; only a hang takes longer
pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs signals")

# A program that starts another one, names both, and stays.
SLEEPER = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
with open(sys.argv[1] + ".part", "w") as file:
    file.write(f"{os.getpid()} {child.pid}")
os.rename(sys.argv[1] + ".part", sys.argv[1])
assert sys.stdin.read() == ""
time.sleep(600)
"""
PARENT = """
import sys
from saebench.data.assets.fetch import run_watched
from saebench.data.assets.guard import guarded
run_watched(guarded("sleeper", sys.argv[1]), {"PYTHONPATH": sys.argv[2]}, lambda: None)
"""


def wait_for(condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def gone(pid):
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.fixture
def sleeper(tmp_path):
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "sleeper.py").write_text(SLEEPER)
    return folder


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_program_and_what_it_started_end_with_the_process_that_started_them(sleeper, tmp_path, sent):
    pids = tmp_path / "pids"
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(pids), str(sleeper)], stderr=subprocess.DEVNULL)
    wait_for(pids.exists)
    program, child = map(int, pids.read_text().split())
    assert not gone(program)
    assert not gone(child)
    parent.send_signal(sent)
    parent.wait(PATIENCE)
    wait_for(lambda: gone(program) and gone(child))


def test_an_error_of_the_watcher_ends_the_program_and_what_it_started(sleeper, tmp_path):
    pids = tmp_path / "pids"

    def watch():
        if pids.exists():
            raise AssetError("enough")

    with pytest.raises(AssetError, match="enough"):
        run_watched(guarded("sleeper", str(pids)), {"PYTHONPATH": str(sleeper)}, watch)
    wait_for(lambda: all(gone(int(pid)) for pid in pids.read_text().split()))


def test_a_module_in_the_current_folder_is_not_run(tmp_path, monkeypatch):
    """A stranger's folder may hold a file called pip.py."""
    (tmp_path / "pip.py").write_text(f"open({str(tmp_path / 'EXECUTED')!r}, 'w')")
    monkeypatch.chdir(tmp_path)
    code, output = run_watched(guarded("pip", "--version"), {}, lambda: None)
    assert code == 0
    assert output.startswith("pip ")
    assert not (tmp_path / "EXECUTED").exists()


def test_modules_of_saebench_are_found_from_every_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, output = run_watched(guarded("saebench.data.assets.convert", "nowhere.gguf", "out"), {}, lambda: None)
    assert code != 0
    assert "No module named" not in output


# ---------------------------------------------------------------- what killed pulls leave on the disk


@pytest.fixture
def abandoned(cache):
    """Staging folders that killed pulls of both assets have left."""
    for name in ("plain-text", "tiny-model"):
        folder = cache.root / ".staging" / name / "0123abcd" / "wheels"
        folder.mkdir(parents=True)
        (folder / "half.whl").write_bytes(b"half")
    return cache.root / ".staging"


def test_a_pull_removes_what_killed_pulls_of_all_assets_have_left(cache, abandoned):
    cache.pull("plain-text", QUIET)
    assert not list(abandoned.glob("*"))


def test_a_pull_of_what_is_there_removes_what_killed_pulls_have_left(cache, abandoned):
    cache.pull("plain-text", QUIET)
    for name in ("plain-text", "other"):
        (abandoned / name / "0123abcd").mkdir(parents=True)
    cache.pull("plain-text", QUIET)
    assert not list(abandoned.glob("*"))


def test_what_another_process_is_pulling_stays(cache, abandoned, manifest, fetch, registry):
    inside = []

    def nested(asset, folder, progress):
        fetch(asset, folder, progress)
        other = AssetCache(cache.root, manifest, fetch)
        other.pull("plain-text", progress)
        inside.extend(path.name for path in folder.glob("*.whl"))

    AssetCache(cache.root, manifest, nested, cache._convert).pull("tiny-model", QUIET)
    assert len(inside) == 3
    assert cache.verify("tiny-model") == cache.verify("plain-text") == []


def test_an_asset_that_was_moved_aside_by_a_killed_pull_is_put_back(cache, registry):
    final = cache.pull("plain-text", QUIET)
    aside = cache.root / ".staging" / "plain-text" / "0123abcd" / OLD
    aside.parent.mkdir(parents=True)
    final.rename(aside)
    for wheel in registry.iterdir():  # nothing can be fetched any more
        wheel.unlink()
    with pytest.raises(AssetError):
        cache.pull("plain-text", QUIET)
    assert cache.verify("plain-text") == []


@pytest.mark.parametrize("name", [".staging", ".locks"])
def test_a_file_where_the_cache_needs_a_folder_is_one_sentence(cache, name):
    cache.root.mkdir(parents=True)
    (cache.root / name).write_text("x")
    with pytest.raises(AssetError, match=r"Cannot write to the asset cache .*SAEBENCH_HOME"):
        cache.pull("plain-text", QUIET)


def test_a_file_in_the_place_of_a_staging_folder_is_removed(cache):
    (cache.root / ".staging").mkdir(parents=True)
    (cache.root / ".staging" / "plain-text").write_text("x")
    cache.pull("plain-text", QUIET)
    assert cache.verify("plain-text") == []
