"""The lock covers what the package asks for, and the check notices when it, or the environment, falls short."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import Distribution
from typing import Any

import pytest

from scripts import lock

PROJECT = tomllib.loads((lock.ROOT / "pyproject.toml").read_text())
HASH = "0" * 64


def locked(name: str, version: str, marker: str = "") -> lock.Locked:
    [package] = lock.parse(f"{name}=={version}{marker and f' ; {marker}'} \\\n    --hash=sha256:{HASH}")
    return package


def project(*core: str, dev: tuple[str, ...] = (), build: tuple[str, ...] = ()) -> dict[str, Any]:
    sections = {"dependencies": [*core], "optional-dependencies": {"dev": [*dev]}}
    return {"build-system": {"requires": [*build]}, "project": sections}


class Installed(Distribution):
    """An installed package with a version and requirements."""

    def __init__(self, version: str, *requires: str) -> None:
        self._texts = requires
        self._version = version

    def read_text(self, filename: str) -> str | None:
        lines = [f"Version: {self._version}", *(f"Requires-Dist: {text}" for text in self._texts)]
        return "\n".join(["Metadata-Version: 2.1", *lines, ""]) if filename == "METADATA" else None

    def locate_file(self, path: Any) -> Any:
        raise NotImplementedError


def test_the_lock_covers_what_the_package_asks_for():
    assert [*lock.uncovered(PROJECT, lock.read())] == []


def test_every_file_of_the_lock_is_what_the_division_gives():
    files = lock.read()
    again = lock.divide([*files[lock.ALL], *files[lock.CUDA]])
    assert again == files
    assert {package.name for package in files[lock.BUILD]} == set(lock.BUILDERS)


def test_the_lock_names_no_place():
    for name in (lock.BUILD, lock.TORCH_CPU, lock.ALL, lock.CUDA):
        text = (lock.FOLDER / name).read_text()
        assert not re.search(r"https?:|file:|^-|(?<!\w)/\w", text, re.MULTILINE)


def test_no_version_exists_in_one_build_only():
    assert [one.name for packages in lock.read().values() for one in packages if "+" in one.version] == []


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("numpy==2.4.6", "numpy has no hash"),
        (f"numpy>=2 \\\n    --hash=sha256:{HASH}", "numpy has no single version"),
        (f"numpy==2.* \\\n    --hash=sha256:{HASH}", "numpy has no single version"),
        ("numpy==2.4.6 \\\n    --hash=sha256:beef", "numpy has no hash"),
        ("numpy==2.4.6 \\\n    --hash=md5:beef", "numpy has no hash"),
    ],
)
def test_a_package_without_version_or_hash_is_refused(text, sentence):
    with pytest.raises(ValueError, match=sentence):
        lock.parse(text)


@pytest.mark.parametrize(
    ("asked", "package", "count"),
    [
        (project("numpy>=2"), locked("numpy", "2.4"), 0),
        (project("NumPy>=2"), locked("numpy", "2.4"), 0),
        (project("numpy>=3"), locked("numpy", "2.4"), 9),
        (project("scipy"), locked("numpy", "2.4"), 9),
        (project(dev=("scipy",)), locked("numpy", "2.4"), 9),
        (project(build=("hatchling",)), locked("numpy", "2.4"), 9),
        (project("numpy"), locked("numpy", "2.4", "python_version < '3.13'"), 3),
        (project("numpy"), locked("numpy", "2.4", "sys_platform == 'linux'"), 6),
        (project("numpy; sys_platform == 'linux'"), locked("numpy", "2.4", "sys_platform == 'linux'"), 0),
    ],
)
def test_what_the_lock_does_not_cover_is_named_for_each_environment(asked, package, count):
    problems = [*lock.uncovered(asked, {lock.ALL: [package]})]
    assert len(problems) == count
    assert all("pyproject.toml asks for" in problem for problem in problems)


FILES = {
    lock.ALL: [locked("torch", "2.13.0"), locked("numpy", "2.4"), locked("colorama", "1", "sys_platform == 'win32'")],
    lock.CUDA: [locked("nvidia-cublas", "13.1")],
}
CPU_BUILD = {"torch": Installed("2.13.0+cpu", "numpy>=2"), "numpy": Installed("2.4")}
CUDA_BUILD = {"torch": Installed("2.13.0", "nvidia-cublas==13.1"), "numpy": Installed("2.4")}


@pytest.mark.parametrize(
    ("installed", "sentences"),
    [
        (CPU_BUILD, []),
        ({**CPU_BUILD, "pip": Installed("23"), "saebench": Installed("1")}, []),
        (CPU_BUILD | {"numpy": Installed("2.5")}, ["numpy is installed as 2.5, and the lock has 2.4."]),
        (CPU_BUILD | {"rich": Installed("1")}, ["rich is installed, and the lock does not have it."]),
        ({"numpy": Installed("2.4")}, ["torch 2.13.0 is not installed."]),
        (
            CPU_BUILD | {"numpy": Installed("2.4", "six>=1", "rich; extra == 'more'")},
            ["numpy needs six>=1, which the environment does not have."],
        ),
        (CUDA_BUILD | {"nvidia-cublas": Installed("13.1")}, []),
        (
            CUDA_BUILD,
            [
                "nvidia-cublas 13.1 is not installed.",
                "torch needs nvidia-cublas==13.1, which the environment does not have.",
            ],
        ),
    ],
)
def test_differences_between_the_environment_and_the_lock_are_named(installed, sentences):
    assert [*lock.differences(installed, FILES)] == sentences


def test_cuda_and_builds_for_cpus_have_files_of_their_own():
    packages = [locked("torch", "2.13.0"), locked("nvidia-nvtx", "1"), locked("triton", "1"), locked("hatchling", "1")]
    files = lock.divide(packages)
    names = {file: [package.name for package in content] for file, content in files.items()}
    assert names == {
        lock.BUILD: ["hatchling"],
        lock.TORCH_CPU: ["torch"],
        lock.ALL: ["torch", "hatchling"],
        lock.CUDA: ["nvidia-nvtx", "triton"],
    }
    [cpu] = files[lock.TORCH_CPU]
    assert lock.parse(cpu.text) == [cpu]
    assert HASH not in cpu.hashes
    assert lock.divide([locked("torch", "2.12.0")])[lock.TORCH_CPU] == []
