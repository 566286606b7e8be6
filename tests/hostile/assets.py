"""Caches of assets that are damaged: markers, files, folders, and what is remembered about them."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.hostile.case import EXECUTED, Case, Surroundings

MODEL, TEXTS, DATASET = "smollm2-135m", "sae-probes", "cleaned_data/97_news_class.csv.zst"
REFUSED = frozenset({2})
WEIGHTS = "model.safetensors"

Edit = Callable[[Path], object]


def cases() -> list[Case]:
    """Return the cases."""
    return [*_markers(), *_files(), *_texts(), *_memories(), *_folders()]


def _case(
    name: str,
    edit: Edit,
    *says: str,
    command: Sequence[str] = (),
    codes: frozenset[int] = REFUSED,
    asset: str = MODEL,
) -> Case:
    """Return the case of a cache with a good asset, whose folder ``edit`` changes.

    Args:
        name: The name of the case.
        edit: Is called with the folder of the asset.
        *says: Texts of which the output must hold one.
        command: What reads the cache; a run by default.
        codes: The exit codes that are right.
        asset: The asset: a model, or texts.
    """

    def write(folder: Path, around: Surroundings) -> Sequence[str]:
        home = folder.with_name("home")  # where the judge lets SAEBENCH_HOME point to
        place = home / "assets" / asset
        place.mkdir(parents=True)
        if asset == MODEL:
            shutil.copytree(around.model, place, dirs_exist_ok=True)
        else:
            _write_texts(place, [(f"{number} some good words " * 6, number % 2) for number in range(400)])
        _mark(place)
        edit(place)
        return command or _run(folder, around, asset)

    return Case(name, "assets", write, says, codes)


def _run(folder: Path, around: Surroundings, asset: str) -> list[str]:
    model = f"asset:{MODEL}" if asset == MODEL else str(around.model)
    text = f"asset:{TEXTS}/97_news_class" if asset == TEXTS else f"jsonl:{around.text}"
    options = ["--tasks", "core", "--preset", "smoke", "--limit", "4", "--device", "cpu", "--dtype", "float32"]
    inputs = ["--model", model, "--text", text, "--sae", "baseline:neurons", "--cache-budget", "0"]
    return ["run", *options, *inputs, "--out", str(folder / "out")]


def _mark(place: Path, **changes: Any) -> None:
    """Write the marker that a pull would have written, with changes."""
    from saebench.data.assets import manifest

    files = {
        file.relative_to(place).as_posix(): {
            "size": file.stat().st_size,
            "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        }
        for file in sorted(place.rglob("*"))
        if file.is_file() and file.name != "asset.json"
    }
    source = manifest()[place.name].source_sha256
    marker = {"name": place.name, "licence": "MIT", "source_sha256": source, "sources": {}, "files": files}
    (place / "asset.json").write_text(json.dumps(marker | changes), "utf-8")


def _write_texts(place: Path, rows: Sequence[tuple[object, object]], header: str = "prompt,target") -> None:
    content = header + "\n" + "".join(f"{prompt},{target}\n" for prompt, target in rows)
    _write_dataset(place, _packed(content.encode()))


def _write_dataset(place: Path, data: bytes) -> None:
    path = place / DATASET
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)


def _packed(data: bytes) -> bytes:
    import zstandard

    return zstandard.compress(data)


def _flipped(file: str, bit: int, keep_times: bool = False) -> Edit:
    def edit(place: Path) -> None:
        path = place / file
        times = path.stat()
        data = bytearray(path.read_bytes())
        data[bit // 8 % len(data)] ^= 1 << bit % 8
        path.write_bytes(bytes(data))
        if keep_times:
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))

    return edit


def _marker(content: bytes | str | dict[str, Any]) -> Edit:
    """Write another marker, or change fields of the good one."""

    def edit(place: Path) -> None:
        if isinstance(content, dict):
            _mark(place, **content)
        else:
            (place / "asset.json").write_bytes(content.encode() if isinstance(content, str) else content)

    return edit


def _instead(file: str, make: Callable[[Path], object]) -> Edit:
    """Put something else in the place of a file."""

    def edit(place: Path) -> None:
        (place / file).unlink(missing_ok=True)
        make(place / file)

    return edit


def _itself(path: Path) -> None:
    path.symlink_to(path.name)


def _device(path: Path) -> None:
    path.symlink_to("/dev/zero")


# ---------------------------------------------------------------- cases


def _markers() -> list[Case]:
    entry = {"size": 1, "sha256": "0" * 64}
    odd: list[tuple[str, bytes | str | dict[str, Any]]] = [
        ("empty", b""),
        ("a list", "[]"),
        ("null", "null"),
        ("cut", '{"name": "sm'),
        ("not UTF-8", b'{"name": "\xff"}'),
        ("deep", "[" * 100_000),
        ("huge", b" " * 2**22),
        ("a number of 5,000 digits", '{"size": ' + "9" * 5000 + "}"),
        ("half a surrogate pair", '{"name": "\\ud800"}'),
        ("of another asset", {"name": "other"}),
        ("of a name with control characters", {"name": "\x1b[31mred\x07\0"}),
        ("with a licence that is a number", {"licence": 3}),
        ("with sources that are a list", {"sources": [1]}),
        ("with files that are a list", {"files": [1]}),
        ("with files that are numbers", {"files": {"a": 3}}),
        ("with a size that is a text", {"files": {"a": entry | {"size": "1"}}}),
        ("with a negative size", {"files": {"a": entry | {"size": -1}}}),
        ("with a huge size", {"files": {"a": entry | {"size": 2**70}}}),
        ("with a hash that is short", {"files": {"a": entry | {"sha256": "0"}}}),
        ("with a file outside", {"files": {"../../../../etc/passwd": entry}}),
        ("with a device", {"files": {"/dev/zero": entry}}),
        ("with a zero byte in a name", {"files": {"a\0b": entry}}),
    ]
    everywhere: list[tuple[str, Sequence[str], frozenset[int]]] = [
        ("list", ["assets", "list"], frozenset({0})),
        ("verify", ["assets", "verify"], frozenset({1})),
        ("path", ["assets", "path", MODEL], REFUSED),
        ("doctor", ["doctor"], frozenset({0, 1})),
    ]
    return [
        *(_case(f"marker {name}", _marker(content), "asset.json is damaged") for name, content in odd),
        *(
            _case(f"damaged marker and assets {name}", _marker("{"), "damaged", command=command, codes=codes)
            for name, command, codes in everywhere
        ),
        _case("marker that is a pipe", _instead("asset.json", os.mkfifo), "asset.json is damaged"),
        _case("marker that is a folder", _instead("asset.json", os.mkdir), "asset.json is damaged"),
        _case("marker that is a link to itself", _instead("asset.json", _itself), "asset.json is damaged"),
        _case("marker that is a device", _instead("asset.json", _device), "asset.json is damaged"),
        _case("marker without files", _marker({"files": {}}), codes=frozenset({0, 2})),
    ]


def _files() -> list[Case]:
    again = f"saebench assets pull {MODEL} --force"
    return [
        _case("a good cache", lambda place: None, codes=frozenset({0})),
        *(
            _case(f"bit {bit:,} of {file} flipped", _flipped(file, bit), f"is damaged: {file} has changed")
            for file, bit in ((WEIGHTS, 99_999), (WEIGHTS, 3), ("config.json", 77), ("tokenizer.json", 12_345))
        ),
        _case("a flipped bit, and the time set back", _flipped(WEIGHTS, 99_999, keep_times=True), again),
        _case("a file that is cut", lambda place: os.truncate(place / WEIGHTS, 1000), "has 1000 bytes instead of"),
        _case("a file that is missing", lambda place: (place / "config.json").unlink(), "config.json is missing"),
        _case("a file that is a pipe", _instead(WEIGHTS, os.mkfifo), f"is damaged: {WEIGHTS} cannot be read"),
        _case("a file that is a folder", _instead(WEIGHTS, os.mkdir), f"is damaged: {WEIGHTS} cannot be read"),
        _case("a file that is a device", _instead(WEIGHTS, _device), f"is damaged: {WEIGHTS} cannot be read"),
        _case("a file that is a link to itself", _instead(WEIGHTS, _itself), f"is damaged: {WEIGHTS} cannot be read"),
        *(
            _case(
                f"a damaged file and assets {command[-1]}",
                _flipped(WEIGHTS, 99),
                "damaged",
                command=command,
                codes=codes,
            )
            for command, codes in (
                (["assets", "verify"], frozenset({1})),
                (["assets", "path", MODEL], REFUSED),
                (["doctor"], frozenset({0, 1})),
            )
        ),
    ]


def _texts() -> list[Case]:
    def dataset(name: str, data: bytes | Callable[[], bytes], *says: str, codes: frozenset[int] = REFUSED) -> Case:
        def edit(place: Path) -> None:
            _write_dataset(place, data() if callable(data) else data)
            _mark(place)

        return _case(f"texts: {name}", edit, *says, codes=codes, asset=TEXTS)

    def bomb() -> bytes:
        import zstandard

        packed = io.BytesIO()
        with zstandard.ZstdCompressor().stream_writer(packed, closefd=False) as file:
            file.write(b"prompt,target\n")
            for _ in range(9000):
                file.write(b"a" * 2**20)
        return packed.getvalue()

    return [
        _case("texts: good", lambda place: None, codes=frozenset({0}), asset=TEXTS),
        _case("texts: a flipped bit", _flipped(DATASET, 999), f"{DATASET} has changed", asset=TEXTS),
        _case("texts: a missing file", lambda place: (place / DATASET).unlink(), "is missing", asset=TEXTS),
        _case("texts: a pipe", _instead(DATASET, os.mkfifo), "cannot be read", asset=TEXTS),
        dataset("nine gigabytes in a small file", bomb, "too much"),
        dataset("not packed", b"prompt,target\na,1\n" * 9, codes=frozenset({0, 2})),
        dataset("packed and cut", _packed(b"prompt,target\n" + b"a,1\n" * 999)[:-9], "cannot be unpacked"),
        dataset("random bytes", bytes(range(256)) * 9, "sae-probes"),
        dataset("another table", _packed(b"text,label\na,1\n"), "no column 'prompt'"),
        dataset("not UTF-8", _packed(b"prompt,target\ncaf\xe9,1\n"), "sae-probes"),
        dataset("nothing", b"", "sae-probes"),
    ]


def _memories() -> list[Case]:
    def remembered(content: bytes | str) -> Edit:
        return lambda place: (place / "verified.json").write_bytes(
            content.encode() if isinstance(content, str) else content
        )

    def trusted(place: Path) -> None:
        """Claim that every file was found right, with sizes and times of long ago, and damage one."""
        _flipped(WEIGHTS, 99_999)(place)
        claimed = {"sha256": "0" * 64, "size": 1, "mtime_ns": 0, "ctime_ns": 0, "inode": 0}
        (place / "verified.json").write_text(json.dumps({WEIGHTS: claimed}), "utf-8")

    good = frozenset({0})
    return [
        *(
            _case(f"memory that is {name}", remembered(content), codes=good)
            for name, content in (
                ("empty", b""),
                ("a list", "[1]"),
                ("deep", "[" * 100_000),
                ("random bytes", bytes(range(256))),
                ("of wrong types", '{"config.json": [1], "model.safetensors": {"size": "x"}}'),
            )
        ),
        _case("memory that is a pipe", _instead("verified.json", os.mkfifo), codes=good),
        _case("memory that is a link to itself", _instead("verified.json", _itself), codes=good),
        _case("memory that is a device", _instead("verified.json", _device), codes=good),
        _case("memory of other files", trusted, f"{WEIGHTS} has changed"),
    ]


def _folders() -> list[Case]:
    def replaced(make: Callable[[Path], object], up: int = 0) -> Edit:
        """Put something else in the place of the asset's folder, or of a folder above it."""

        def edit(place: Path) -> None:
            target = [place, *place.parents][up]
            shutil.rmtree(target)
            make(target)

        return edit

    def foreign_pip(place: Path) -> None:
        """Put modules with the names of programs that saebench starts into the current folder, and remove the asset."""
        shutil.rmtree(place)
        case = place.parents[2] / "case"
        for name in ("pip", "runpy", "ensurepip"):
            (case / f"{name}.py").write_text(f"open({str(case / EXECUTED)!r}, 'w').close()\n", "utf-8")

    pull = ["assets", "pull", MODEL]
    return [
        _case("a folder that is a link to itself", replaced(_itself), command=["assets", "path", MODEL]),
        _case("a folder that is a pipe", replaced(os.mkfifo), command=["assets", "path", MODEL]),
        _case("a cache that is a file", replaced(lambda path: path.write_text("x"), 1), command=pull),
        _case("a cache that is a link to itself", replaced(_itself, 1), command=pull),
        _case("a cache that is a pipe", replaced(os.mkfifo, 1), command=["assets", "verify"], codes=frozenset({0, 2})),
        _case(
            "a file in the place of the locks",
            lambda place: [(place.parent / ".locks").write_text("x"), (place / "asset.json").unlink()],
            "Cannot write to the asset cache",
            command=pull,
        ),
        _case(
            "a file in the place of the staging folder",
            lambda place: [(place.parent / ".staging").write_text("x"), (place / "asset.json").unlink()],
            "Cannot write to the asset cache",
            command=pull,
        ),
        _case("programs in the current folder", foreign_pip, command=["doctor"], codes=frozenset({0, 1})),
    ]
