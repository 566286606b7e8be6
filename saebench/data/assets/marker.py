"""The marker ``asset.json`` of a complete asset: where it came from, and what each of its files must be."""

from __future__ import annotations

import os
from pathlib import Path, PurePosixPath
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from saebench.errors import AssetError
from saebench.files import read_json

MARKER = "asset.json"


def _inside(name: str) -> str:
    """Return a file's name. Raises ValueError unless it is a path inside of the asset's folder."""
    path = PurePosixPath(name)
    if path.is_absolute() or not path.parts or ".." in path.parts or "\\" in name or "\0" in name:
        raise ValueError("it is no path inside of the asset's folder")
    return name


class FileEntry(BaseModel):
    """The size in bytes and the hash that a file of an asset must have."""

    model_config = ConfigDict(strict=True, frozen=True)

    size: Annotated[int, Field(ge=0, lt=2**63)]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class Marker(BaseModel):
    """The content of ``asset.json``."""

    model_config = ConfigDict(strict=True, frozen=True)

    name: str
    licence: str
    source_sha256: str
    sources: dict[str, str]  # the sha256 of each source file, including a GGUF that is deleted after its conversion
    files: dict[Annotated[str, AfterValidator(_inside)], FileEntry]

    @property
    def size(self) -> int:
        """The bytes of all files."""
        return sum(entry.size for entry in self.files.values())

    @classmethod
    def read(cls, folder: Path) -> Marker | None:
        """Return the marker in an asset's folder, or None if there is none. Raises AssetError if it is damaged."""
        path = folder / MARKER
        try:
            os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise AssetError(f"Cannot read {path}: {error.strerror or error}.") from error
        try:
            marker = cls.model_validate(read_json(path, "marker", AssetError))
            problem = "" if marker.name == folder.name else f"it belongs to the asset {marker.name[:200]!a}"
        except AssetError as error:
            problem = str(error).rstrip(".")
        except ValidationError as error:
            first = error.errors()[0]
            problem = f"{'.'.join(map(str, first['loc']))[:200]!a}: {first['msg']}"
        if problem:
            raise AssetError(
                f"{path} is damaged ({problem}); run `saebench assets pull {folder.name} --force`, which fetches the "
                "asset again."
            )
        return marker

    def write(self, folder: Path) -> None:
        """Write the marker into an asset's folder. Raises OSError if that is not possible."""
        (folder / MARKER).write_text(self.model_dump_json(indent=1) + "\n", "utf-8")
