"""Write the lock in ``requirements/``, or check that it is complete and that the environment equals it.

The lock names every package of the development environment in one version and with the hashes of its files, for all
supported versions of Python and all systems. It has four files, because pip takes or refuses a file as a whole:

- ``build.txt``: what builds packages that have no wheel, and saebench itself; installed first;
- ``torch-cpu.txt``: builds of torch for CPUs, which the registry does not have. They are installed where pip's
  ``find-links`` leads to one;
- ``all.txt``: everything but CUDA;
- ``cuda.txt``: what the registry's torch for Linux needs beside that. A build for CPUs must do without it.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import Distribution, distribution, distributions
from pathlib import Path
from tempfile import TemporaryDirectory

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "requirements"
BUILD, TORCH_CPU, ALL, CUDA = "build.txt", "torch-cpu.txt", "all.txt", "cuda.txt"
PYTHONS = ("3.11", "3.12", "3.13")
SYSTEMS = {"linux": "Linux", "darwin": "Darwin", "win32": "Windows"}
# Everything that hatchling and setuptools need to build a package.
BUILDERS = ("editables", "hatchling", "packaging", "pathspec", "pluggy", "setuptools", "tomlkit", "trove-classifiers")
# The version of torch, and the hashes of its builds for CPUs (torch-2.13.0+cpu for CPython 3.11 on Linux, x86-64).
TORCH_CPU_HASHES = {
    "2.13.0": ("6746dbcbeb526eb61330b76b41ff1b4eb848951103a892eeb080dfa2b264667b",),
}
_IS_CUDA = re.compile(r"nvidia-|cuda-|triton$")
_OURS = frozenset({"saebench", "pip"})  # pip installs the lock and comes with Python
_HEADS = {
    BUILD: "What builds packages that have no wheel, and saebench itself; installed first.",
    TORCH_CPU: "Builds of torch for CPUs, installed where pip's find-links leads to one.",
    ALL: "Everything that pyproject.toml asks for, with its extra `dev`, but for CUDA.",
    CUDA: "What the registry's torch for Linux needs in addition.",
}

Environment = Mapping[str, str]


@dataclass(frozen=True)
class Locked:
    """One package of the lock.

    Attributes:
        requirement: Its name, its one version, and the marker that says where it is installed.
        hashes: The SHA-256 of each of its files.
        text: The lines of the lock, without comments.
    """

    requirement: Requirement
    hashes: tuple[str, ...]
    text: str

    @property
    def name(self) -> str:
        return canonicalize_name(self.requirement.name)

    @property
    def version(self) -> str:
        return str(self.requirement.specifier).removeprefix("==")

    def applies(self, environment: Environment) -> bool:
        return self.requirement.marker is None or self.requirement.marker.evaluate(dict(environment))


def parse(text: str) -> list[Locked]:
    """Return the packages of a lock. Raises ValueError for a package without one exact version or without a hash."""
    lines = [line.rstrip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    packages = []
    for block in re.split(r"\n(?=\S)", "\n".join(lines)):
        head, *rest = (line.removesuffix("\\").strip() for line in block.splitlines())
        hashes = tuple(line.removeprefix("--hash=sha256:") for line in rest)
        requirement = Requirement(head)
        if not re.fullmatch(r"==[^*,]+", str(requirement.specifier)):
            raise ValueError(f"{requirement.name} has no single version in the lock.")
        if not hashes or not all(re.fullmatch("[0-9a-f]{64}", value) for value in hashes):
            raise ValueError(f"{requirement.name} has no hash in the lock.")
        packages.append(Locked(requirement, hashes, block))
    return packages


def divide(packages: Iterable[Locked]) -> dict[str, list[Locked]]:
    """Return the packages of each file of the lock."""
    files: dict[str, list[Locked]] = {BUILD: [], TORCH_CPU: [], ALL: [], CUDA: []}
    for package in packages:
        if package.name in BUILDERS:
            files[BUILD].append(package)
        if package.name == "torch" and (known := TORCH_CPU_HASHES.get(package.version)):
            text = " \\\n".join([f"torch=={package.version}", *(f"    --hash=sha256:{value}" for value in known)])
            files[TORCH_CPU].append(Locked(package.requirement, known, text))
        files[CUDA if _IS_CUDA.match(package.name) else ALL].append(package)
    return files


def uncovered(project: Mapping[str, object], files: Mapping[str, list[Locked]]) -> Iterator[str]:
    """Yield a sentence for every requirement of ``pyproject.toml`` that the lock does not meet somewhere."""
    texts = _asked(project)
    for environment in _environments():
        where = f"Python {environment['python_version']} on {environment['platform_system']}"
        versions = {package.name: package.version for package in files[ALL] if package.applies(environment)}
        for requirement in map(Requirement, texts):
            if requirement.marker is not None and not requirement.marker.evaluate(dict(environment)):
                continue
            version = versions.get(canonicalize_name(requirement.name))
            if version is None:
                yield f"pyproject.toml asks for {requirement}, which the lock does not have for {where}."
            elif not requirement.specifier.contains(version, prereleases=True):
                yield f"pyproject.toml asks for {requirement}, and the lock has {version} for {where}."


def differences(installed: Mapping[str, Distribution], files: Mapping[str, list[Locked]]) -> Iterator[str]:
    """Yield a sentence for every difference between the lock and the packages that are installed, by name."""
    wanted = [*files[ALL], *(files[CUDA] if "torch" in installed and needs_cuda(installed["torch"]) else ())]
    here = {str(key): str(value) for key, value in default_environment().items()}
    locked = {package.name: package for package in wanted if package.applies(here)}
    for name, package in locked.items():
        if name not in installed:
            yield f"{name} {package.version} is not installed."
        elif not package.requirement.specifier.contains(installed[name].version, prereleases=True):
            yield f"{name} is installed as {installed[name].version}, and the lock has {package.version}."
    for name in sorted(set(installed) - set(locked) - _OURS):
        yield f"{name} is installed, and the lock does not have it."
    for name, package_installed in installed.items():
        for requirement in _needed(package_installed):
            other = installed.get(canonicalize_name(requirement.name))
            if other is None or not requirement.specifier.contains(other.version, prereleases=True):
                yield f"{name} needs {requirement}, which the environment does not have."


def needs_cuda(torch: Distribution) -> bool:
    """Return whether a build of torch needs the packages of ``cuda.txt``."""
    return any(_IS_CUDA.match(canonicalize_name(requirement.name)) for requirement in _needed(torch))


def _needed(package: Distribution) -> list[Requirement]:
    """Return what an installed package needs here, without its extras."""
    requirements = map(Requirement, package.requires or ())
    return [one for one in requirements if one.marker is None or one.marker.evaluate({"extra": ""})]


def _asked(project: Mapping[str, object]) -> list[str]:
    """Return the requirements of ``pyproject.toml`` that the lock must meet: core, `dev`, and the build."""
    match project:
        case {
            "build-system": {"requires": [*build]},
            "project": {"dependencies": [*core], "optional-dependencies": {"dev": [*dev]}},
        }:
            return [str(text) for text in (*build, *core, *dev)]
    raise ValueError("pyproject.toml does not name build requirements, dependencies and the extra `dev`.")


def _environments() -> Iterator[dict[str, str]]:
    here = {str(key): str(value) for key, value in default_environment().items()}
    for python in PYTHONS:
        for system, name in SYSTEMS.items():
            versions = {"python_version": python, "python_full_version": f"{python}.0"}
            yield here | versions | {"sys_platform": system, "platform_system": name}


def read() -> dict[str, list[Locked]]:
    """Return the packages of each file of the lock."""
    return {name: parse((FOLDER / name).read_text(encoding="utf-8")) for name in _HEADS}


def check() -> list[str]:
    """Return a sentence for everything that is wrong with the lock and with this environment."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    files = read()
    if problems := [*uncovered(project, files)]:
        return [*problems, "Run `make lock`, and look at what it changes."]
    installed = {str(canonicalize_name(package.metadata["Name"])): package for package in distributions()}
    problems = [*differences(installed, files)]
    return [*problems, "Make the environment anew with `make clean install`."] if problems else []


def update(upgrades: list[str]) -> None:
    """Write the lock. Versions stay as they are where pyproject.toml allows it, unless ``upgrades`` names them."""
    with TemporaryDirectory() as folder:
        output = Path(folder) / "lock.txt"
        output.write_text("".join((FOLDER / name).read_text(encoding="utf-8") for name in (ALL, CUDA)))
        build = Path(folder) / "build.in"
        build.write_text("\n".join(BUILDERS))
        command = [
            str(Path(sys.executable).with_name("uv")), "pip", "compile", str(ROOT / "pyproject.toml"), str(build),
            "--extra", "dev", "--universal", "--python-version", PYTHONS[0], "--generate-hashes", "--no-header",
            "--no-annotate", "--no-config", "--quiet", "--output-file", str(output),
        ]  # fmt: skip
        for name in upgrades:
            command += ["--upgrade"] if name == "all" else ["--upgrade-package", name]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        files = divide(parse(output.read_text(encoding="utf-8")))
    for name, packages in files.items():
        lines = [f"# {_HEADS[name]}", "# `make lock` writes this file; scripts/lock.py explains it."]
        text = "\n".join([*lines, *(package.text for package in packages)])
        (FOLDER / name).write_text(f"{text}\n", encoding="utf-8")
    if not files[TORCH_CPU]:
        print("TORCH_CPU_HASHES has no build of this torch for CPUs: everybody will install CUDA.", file=sys.stderr)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("check", help="say what is wrong with the lock and this environment, and exit with 1")
    commands.add_parser("needs-cuda", help="exit with 0 if the installed torch needs cuda.txt, and with 1 otherwise")
    updating = commands.add_parser("update", help="write the lock")
    updating.add_argument("upgrades", nargs="*", metavar="NAME[==VERSION]", help="what to move, or `all`")
    options = parser.parse_args(arguments)
    if options.command == "needs-cuda":
        return 0 if needs_cuda(distribution("torch")) else 1
    if options.command == "update":
        update(options.upgrades)
        return 0
    problems = check()
    print(*problems, sep="\n", end="\n" if problems else "", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
