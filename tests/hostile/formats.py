"""SAEs of all formats beside SAELens' own, with damaged weights and settings, or with code in their place."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.hostile.case import Case, Surroundings
from tests.hostile.sae_folder import marking_pickle

REFUSED_AT_ONCE = frozenset({1, 2})  # what lies at the place may be seen to be no SAE before anything is loaded
_SETTINGS = (".json", ".yaml", ".yml")
_SITE = "blocks.1.hook_resid_post"

Edit = Callable[[Path], object]


def cases() -> list[Case]:
    """Return the cases: one example of each format with each kind of damage."""
    return [
        *(_case(name, kind, edit, weights=True) for name in examples() for kind, edit in WEIGHTS.items()),
        *(_case(name, kind, edit, weights=False) for name in _with_settings() for kind, edit in SETTINGS.items()),
    ]


def examples() -> list[str]:
    """Return the name of one example of each scheme in `tests.sae.catalogue`."""
    return list(_by_scheme().values())


def _by_scheme() -> dict[str, str]:
    from saebench.sae.registry import scheme_registry
    from tests.sae.catalogue import CASES

    # Of two schemes that a name begins with, it is the longer one.
    schemes = sorted(scheme_registry().file_formats(), key=len, reverse=True)
    chosen: dict[str, str] = {}
    for name in CASES:
        scheme = next((one for one in schemes if name.startswith(one)), "")
        if name.startswith("several "):  # their names are those of libraries
            scheme = name.split("-")[0] + (" clt" if "-clt-" in name else "")
        if scheme not in ("sae_lens", ""):  # the corpus of SAELens is in `tests.hostile.saes`
            chosen.setdefault(scheme, name)
    return chosen


def _with_settings() -> list[str]:
    bare = ("gemma_scope", "goodfire", "qresearch", "qwen_scope", "openai", "overcomplete", "saev", "scaled_topk")
    return [name for scheme, name in _by_scheme().items() if scheme not in bare]


def _case(name: str, kind: str, edit: Edit, *, weights: bool) -> Case:
    def write(folder: Path, around: Surroundings) -> Sequence[str]:
        from tests.sae.catalogue import CASES

        made = CASES[name](folder / "sae")
        files = [path for path in (folder / "sae").rglob("*") if path.is_file()]
        chosen = [path for path in files if (path.suffix in _SETTINGS) != weights]
        for path in chosen:
            edit(path)
        query = "" if "?" in made.reference else f"?hook={_SITE}" if made.path.exists() else ""
        options = ["--tasks", "core", "--preset", "smoke", "--limit", "4", "--device", "cpu", "--dtype", "float32"]
        inputs = ["--model", str(around.model), "--text", f"jsonl:{around.text}"]
        saes = ["--sae", made.reference + query, "--sae", f"sae_lens:{around.sae}"]
        return ["run", *options, *inputs, *saes, "--cache-budget", "0", "--out", str(folder / "out")]

    what = "weights" if weights else "settings"
    return Case(f"{name}: {what} {kind}", "formats", write, codes=REFUSED_AT_ONCE, seconds=180)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def _flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    for place in range(8, min(len(data), 400), 7):
        data[place] ^= 0x55
    path.write_bytes(data)


def _values_lost(path: Path) -> None:
    """Replace every value of the settings by a list, which none of them is."""
    text = path.read_text("utf-8")
    if path.suffix == ".json":
        path.write_text(json.dumps({key: [] for key in json.loads(text)}), "utf-8")
    else:
        path.write_text(re.sub(r":[ ].*", ": [[]]", text), "utf-8")


WEIGHTS: dict[str, Edit] = {
    "are gone": Path.unlink,
    "are empty": lambda path: path.write_bytes(b""),
    "are cut": _cut,
    "have flipped bits": _flipped,
    "are a pickle with code": marking_pickle,
    "are a pipe": _pipe,
    "are a link to itself": _loop,
}
SETTINGS: dict[str, Edit] = {
    "are a list": lambda path: path.write_text("[]"),
    "are deep": lambda path: path.write_text("[" * 100_000),
    "are no text": lambda path: path.write_bytes(b"\xff\xfe\x00"),
    "hold code": lambda path: path.write_text("!!python/object/apply:os.system ['touch EXECUTED']\n"),
    "are of wrong types": _values_lost,
    "are a pipe": _pipe,
}
