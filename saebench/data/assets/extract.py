"""Taking the data members out of wheels: streamed, hashed on the way, never imported or executed."""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from contextlib import ExitStack
from pathlib import Path

from saebench.data.assets.manifest import Asset, SourceFile, Wheel
from saebench.errors import AssetError
from saebench.progress import Progress, Ticker

CHUNK = 1 << 20


def extract(asset: Asset, wheel_folder: Path, dest: Path, progress: Progress) -> None:
    """Write the asset's source files to ``dest``. Raises AssetError when a wheel or a file is not what the
    manifest says."""
    total = sum(file.size for file in asset.files)
    with ExitStack() as stack, progress.task(f"unpacking {asset.name}", total=total, unit="B") as ticker:
        archives = {wheel: stack.enter_context(_open(asset, wheel, wheel_folder)) for wheel in asset.wheels}
        for file in asset.files:
            _extract_file(asset, file, archives, dest, ticker)


def _open(asset: Asset, wheel: Wheel, folder: Path) -> zipfile.ZipFile:
    found = list(folder.glob(f"{wheel.file_prefix}*.whl"))
    if len(found) != 1:
        raise AssetError(f"Asset {asset.name!r}: expected one wheel of {wheel.requirement}, found {len(found)}.")
    try:
        return zipfile.ZipFile(found[0])
    except zipfile.BadZipFile as error:
        raise AssetError(f"Asset {asset.name!r}: {found[0].name} is damaged ({error}); {_again(asset)}") from error


def _extract_file(
    asset: Asset, file: SourceFile, archives: dict[Wheel, zipfile.ZipFile], dest: Path, ticker: Ticker
) -> None:
    target = dest / file.name
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    written = 0
    with target.open("wb") as out:
        for member in file.members:
            try:
                with archives[member.wheel].open(member.path) as source:
                    while chunk := source.read(CHUNK):
                        digest.update(chunk)
                        out.write(chunk)
                        written += len(chunk)
                        ticker.advance(len(chunk))
            except KeyError as error:
                raise AssetError(
                    f"Asset {asset.name!r}: {member.wheel.requirement} does not contain {member.path!r}."
                ) from error
            except (zipfile.BadZipFile, zlib.error, EOFError) as error:
                raise AssetError(
                    f"Asset {asset.name!r}: {member.path!r} in {member.wheel.requirement} is damaged ({error}); "
                    f"{_again(asset)}"
                ) from error
    if digest.hexdigest() != file.sha256:
        raise AssetError(
            f"Asset {asset.name!r}: {file.name} has sha256 {digest.hexdigest()[:16]}… ({written} bytes), the manifest "
            f"says {file.sha256[:16]}… ({file.size} bytes): the download is damaged or not the published file; "
            f"{_again(asset)}"
        )


def _again(asset: Asset) -> str:
    return f"run `saebench assets pull {asset.name}` again."
