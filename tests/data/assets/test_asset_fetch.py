import importlib.util
import os
import sys

import pytest

from saebench.data.assets.convert import convert_in_subprocess
from saebench.data.assets.fetch import download_wheels, run_watched
from saebench.errors import AssetError
from saebench.progress import NullProgress


class Recorder(NullProgress):
    """Adds up what tasks report."""

    def __init__(self):
        self.done = 0.0

    def task(self, description, total=None, unit=""):
        self.total = total
        context = super().task(description, total, unit)
        recorder = self

        class Context:
            def __enter__(self):
                context.__enter__()
                return self

            def __exit__(self, *error):
                return context.__exit__(*error)

            def advance(self, n=1):
                recorder.done += n

        return Context()


@pytest.fixture
def offline_pip(monkeypatch, registry):
    """pip that finds the fake registry's wheels and nothing else: its configuration must apply."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(registry))


def test_pip_downloads_all_wheels_with_its_own_configuration(offline_pip, manifest, tmp_path, registry):
    progress = Recorder()
    folder = tmp_path / "wheels"
    folder.mkdir()
    download_wheels(manifest["tiny-model"], folder, progress)
    assert {path.name for path in folder.glob("*.whl")} == {path.name for path in registry.iterdir()}
    assert progress.done == progress.total == manifest["tiny-model"].download_size


def test_failed_download_gives_pips_reason_and_the_command(offline_pip, manifest, tmp_path, registry):
    for wheel in registry.iterdir():
        wheel.unlink()
    with pytest.raises(AssetError, match=r"No matching distribution found for fake-main==1.0.*assets pull plain-text"):
        download_wheels(manifest["plain-text"], tmp_path, NullProgress())


def test_environment_without_pip(monkeypatch, manifest, tmp_path):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pip" else find_spec(name))
    with pytest.raises(AssetError, match=r"pip is not installed .* ensurepip"):
        download_wheels(manifest["plain-text"], tmp_path, NullProgress())


@pytest.mark.skipif(os.name == "nt", reason="asks for a process by signal 0")
def test_run_watched_ends_the_program_when_interrupted(tmp_path):
    pid_file = tmp_path / "pid"
    script = f"import os, time; open({str(pid_file)!r}, 'w').write(str(os.getpid())); time.sleep(60)"

    def interrupt_when_running():
        if pid_file.exists() and pid_file.read_text():
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_watched([sys.executable, "-c", script], {}, interrupt_when_running)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid_file.read_text()), 0)


def test_run_watched_returns_code_and_output():
    script = "import sys, os; print(os.environ['X_TEST']); print('bad', file=sys.stderr); sys.exit(3)"
    code, output = run_watched([sys.executable, "-c", script], {"X_TEST": "seen"}, lambda: None)
    assert code == 3
    assert "seen" in output
    assert "bad" in output


def test_conversion_of_a_damaged_file_is_an_asset_error(tmp_path, monkeypatch):
    gguf = tmp_path / "model.gguf"
    gguf.write_bytes(b"not a model")
    monkeypatch.setattr(
        "saebench.data.assets.convert.run_watched", lambda *args, **named: (1, "Traceback\nValueError: bad magic\n\n")
    )
    with pytest.raises(AssetError, match=r"Cannot convert model.gguf to safetensors: ValueError: bad magic"):
        convert_in_subprocess(gguf, tmp_path / "out", NullProgress())


def grown(by):
    """A run that makes the download grow by so many bytes before each look at it."""

    def run(command, environment, watch):
        folder = environment["TMPDIR"]
        for _ in range(10):
            with open(os.path.join(folder, "half.whl"), "ab") as file:
                file.truncate(file.tell() + by)
            watch()
        return 0, ""

    return run


def test_a_download_that_is_far_too_large_is_ended(manifest, tmp_path, monkeypatch):
    monkeypatch.setattr("saebench.data.assets.fetch.run_watched", grown(10 * 2**20))
    with pytest.raises(AssetError, match=r"is larger than \d+ MB, but should have 0 MB"):
        download_wheels(manifest["plain-text"], tmp_path, NullProgress())


def test_a_download_that_stands_still_is_ended(manifest, tmp_path, monkeypatch):
    monkeypatch.setattr("saebench.data.assets.fetch.run_watched", grown(0))
    monkeypatch.setattr("saebench.data.assets.fetch.STALL_SECONDS", -1.0)
    with pytest.raises(AssetError, match=r"stands still at 0 MB.*assets pull plain-text"):
        download_wheels(manifest["plain-text"], tmp_path, NullProgress())
