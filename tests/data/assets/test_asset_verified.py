"""Assets are checked when they are used: damage is found, and what has not changed is not hashed again."""

import json
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from saebench.data.assets import verified
from saebench.data.assets.cache import MARKER
from saebench.data.assets.verified import VERIFIED
from saebench.errors import AssetError
from saebench.progress import NullProgress

QUIET = NullProgress()
AN_HOUR_AGO = time.time_ns() - 3600 * 10**9


class Log(NullProgress):
    """Keeps the messages."""

    def __init__(self):
        self.messages = []

    def log(self, message):
        self.messages.append(message)


@pytest.fixture
def hashed(monkeypatch):
    """The names of the files that were hashed since the test began."""
    names = []
    real = verified._sha256
    monkeypatch.setattr(verified, "_sha256", lambda path, ticker: names.append(path.name) or real(path, ticker))
    return names


@pytest.fixture
def model(cache, monkeypatch):
    """The folder of the tiny model, whose files count as settled although they are new."""
    monkeypatch.setattr(verified, "SETTLED_NS", -1)
    monkeypatch.setattr(verified, "_known", {})
    return cache.pull("tiny-model", QUIET)


class Forgetful(dict):
    """Remembers nothing, so that every check reads and writes the memory on the disk."""

    def get(self, key, default=None):
        return default


def flip(path, bit):
    data = bytearray(path.read_bytes())
    data[bit // 8 % len(data)] ^= 1 << bit % 8
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("bit", [0, 9, 77, 333, 4_242, 30_000, 60_001, 77_777])
def test_a_flipped_bit_is_found_on_use_and_the_command_that_fetches_again_is_named(cache, model, bit):
    assert cache.path("tiny-model") == model
    flip(model / "model.safetensors", bit)
    again = r"is damaged: model\.safetensors has changed.*run `saebench assets pull tiny-model --force`"
    for _ in range(2):
        with pytest.raises(AssetError, match=again):
            cache.path("tiny-model")
        with pytest.raises(AssetError, match=again):
            cache.file("tiny-model", "model.safetensors")
    assert cache.file("tiny-model", "NOTICE") == model / "NOTICE"  # what is sound can be used


def test_a_flipped_bit_is_found_although_the_time_was_set_back(cache, model):
    file = model / "NOTICE"
    cache.path("tiny-model")
    times = file.stat()
    flip(file, 5)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(AssetError, match="NOTICE has changed"):
        cache.path("tiny-model")


@pytest.mark.parametrize("bit", range(0, 4000, 97))
def test_a_flipped_bit_in_the_marker_is_harmless_or_found(cache, model, bit):
    cache.path("tiny-model")
    flip(model / MARKER, bit)
    message = ""
    try:
        cache.path("tiny-model")
    except AssetError as error:
        message = str(error)
    assert "saebench assets pull tiny-model" in message or not message


def test_unchanged_files_are_hashed_once_whatever_the_process(cache, model, hashed, monkeypatch):
    cache.path("tiny-model")
    assert sorted(hashed) == ["NOTICE", "config.json", "model.safetensors"]
    monkeypatch.setattr(verified, "_known", {})  # as in another process
    cache.path("tiny-model")
    cache.file("tiny-model", "config.json")
    assert len(hashed) == 3


def test_only_a_file_that_has_changed_is_hashed_again(cache, model, hashed):
    cache.path("tiny-model")
    hashed.clear()
    os.utime(model / "config.json", ns=(AN_HOUR_AGO, AN_HOUR_AGO))
    cache.path("tiny-model")
    assert hashed == ["config.json"]


def test_many_threads_may_check_at_once(cache, model, monkeypatch):
    monkeypatch.setattr(verified, "_known", Forgetful())
    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(lambda _: cache.path("tiny-model"), range(200))) == {model}


def test_a_copy_of_the_cache_is_hashed_again(cache, model, hashed):
    cache.path("tiny-model")
    hashed.clear()
    shutil.copytree(model, model.with_name("copy"))
    shutil.rmtree(model)
    model.with_name("copy").rename(model)
    cache.path("tiny-model")
    assert len(hashed) == 3


def test_what_was_just_written_is_not_remembered(cache, hashed):
    """A second change within the resolution of a file's times would go unnoticed."""
    cache.pull("plain-text", QUIET)
    cache.path("plain-text")
    cache.path("plain-text")
    assert len(hashed) == 4


def test_a_hash_that_is_remembered_for_another_marker_does_not_count(cache, model):
    cache.path("tiny-model")
    marker = json.loads((model / MARKER).read_text())
    marker["files"]["NOTICE"]["sha256"] = "0" * 64
    (model / MARKER).write_text(json.dumps(marker))
    with pytest.raises(AssetError, match="NOTICE has changed"):
        cache.path("tiny-model")


@pytest.mark.parametrize(
    "content", ["", "[]", "{", "[" * 100_000, '{"NOTICE": 1}', "\x00", '{"NOTICE": {"size": "x"}}']
)
def test_a_damaged_memory_is_made_anew(cache, model, hashed, monkeypatch, content):
    cache.path("tiny-model")
    (model / VERIFIED).write_text(content)
    monkeypatch.setattr(verified, "_known", {})
    hashed.clear()
    cache.path("tiny-model")
    monkeypatch.setattr(verified, "_known", {})
    cache.path("tiny-model")
    assert len(hashed) == 3


def test_a_memory_that_is_a_pipe_or_a_link_harms_nothing(cache, model, tmp_path):
    cache.path("tiny-model")
    other = tmp_path / "other"
    other.write_text("kept")
    for make in (os.mkfifo, lambda path: path.symlink_to(other), os.mkdir):
        path = model / VERIFIED
        path.rmdir() if path.is_dir() else path.unlink()
        make(path)
        cache.path("tiny-model")
    assert other.read_text() == "kept"


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="permissions do not bind root")
def test_a_read_only_cache_can_be_used(cache, model, hashed):
    model.chmod(0o555)
    try:
        for _ in range(2):
            cache.path("tiny-model")
        assert len(hashed) == 3  # remembered in the process
    finally:
        model.chmod(0o755)


def test_a_memory_that_cannot_be_written_is_said(cache, model, hashed, monkeypatch):
    monkeypatch.setattr(verified, "_write", lambda *_: False)
    monkeypatch.setattr(verified, "BIG", 1000)
    log = Log()
    for _ in range(2):
        cache.path("tiny-model", log)
    assert len(hashed) == 3
    assert "cannot be written to, so every run will check tiny-model again" in log.messages[-1]


def test_a_long_check_is_said_before_it_begins(cache, model, monkeypatch, caplog):
    monkeypatch.setattr(verified, "BIG", 1000)
    log = Log()
    cache.path("tiny-model", log)
    assert log.messages[0].startswith("checking tiny-model (0 MB), because its files are new or have changed")
    cache.path("tiny-model", log)
    assert len(log.messages) == 1
    os.utime(model / "model.safetensors", ns=(AN_HOUR_AGO, AN_HOUR_AGO))
    cache.path("tiny-model")  # nobody listens, so it is logged
    assert "checking tiny-model" in caplog.text


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to(path.name), lambda path: None])
def test_what_is_no_file_any_more_is_damage(cache, model, make):
    (model / "config.json").unlink()
    make(model / "config.json")
    with pytest.raises(AssetError, match=r"is damaged: config\.json (cannot be read|is missing)"):
        cache.path("tiny-model")
    assert len(cache.verify("tiny-model")) == 1


def test_a_file_that_the_marker_does_not_know_is_not_used(cache, model):
    (model / "stray").write_text("x")
    with pytest.raises(AssetError, match=r"stray is not recorded in asset\.json"):
        cache.file("tiny-model", "stray")


def test_pull_fetches_a_damaged_asset_again(cache, model, fetch):
    flip(model / "NOTICE", 3)
    log = Log()
    cache.pull("tiny-model", log)
    assert fetch.calls == ["tiny-model"] * 2
    assert "tiny-model is fetched again: The asset 'tiny-model'" in log.messages[0]
    assert cache.verify("tiny-model") == []
    (model / MARKER).write_text("{")
    cache.pull("tiny-model", log)
    assert cache.verify("tiny-model") == []


FILES = {"a": {"size": 1, "sha256": "0" * 64}}
GOOD = {"name": "plain-text", "licence": "MIT", "source_sha256": "s", "sources": {}, "files": FILES}


@pytest.mark.parametrize(
    "change",
    [
        *({key: value} for key in GOOD for value in (None, 1, [], True, {"a": None})),
        *({"files": {"a": {"size": size, "sha256": "0" * 64}}} for size in (-1, 1.0, "1", True, None, 10**30)),
        *({"files": {"a": {"size": 1, "sha256": sha}}} for sha in ("", "0" * 63, "0" * 64 + "\n", "Z" * 64, None, 0)),
        *({"files": {name: FILES["a"]}} for name in ("/dev/zero", "../x", "a/../../x", "", ".", "a\\b", "a\0b")),
        {"name": "other"},
        {"name": "plain-text\0"},
    ],
)
def test_odd_markers_are_damage(cache, change):
    folder = cache.root / "plain-text"
    folder.mkdir(parents=True)
    (folder / MARKER).write_text(json.dumps(GOOD | change))
    with pytest.raises(AssetError, match=r"asset\.json is damaged \(.*run `saebench assets pull plain-text --force`"):
        cache.status("plain-text")


@pytest.mark.parametrize(
    "content",
    [b"\xff\xfe", b"[" * 100_000, b'{"name": ' + b"9" * 5000 + b"}", b"\x00" * 99, b" " * 2**21, b'"\\ud800"', b"null"],
)
def test_markers_that_are_no_json_are_damage(cache, content):
    folder = cache.root / "plain-text"
    folder.mkdir(parents=True)
    (folder / MARKER).write_bytes(content)
    with pytest.raises(AssetError, match=r"asset\.json is damaged \(.*run `saebench assets pull plain-text --force`"):
        cache.status("plain-text")


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to(path.name)])
def test_markers_that_are_no_files_are_damage(cache, make):
    folder = cache.root / "plain-text"
    folder.mkdir(parents=True)
    make(folder / MARKER)
    with pytest.raises(AssetError, match=r"asset\.json is damaged"):
        cache.status("plain-text")


def test_an_asset_folder_that_is_a_file_or_a_loop_is_replaced_by_a_pull(cache):
    folder = cache.root / "plain-text"
    cache.root.mkdir(parents=True)
    folder.symlink_to(folder.name)
    with pytest.raises(AssetError, match="Cannot read"):
        cache.status("plain-text")
    cache.pull("plain-text", QUIET)
    assert cache.verify("plain-text") == []
    shutil.rmtree(folder)
    folder.write_text("a file")
    cache.pull("plain-text", QUIET)
    assert cache.verify("plain-text") == []
