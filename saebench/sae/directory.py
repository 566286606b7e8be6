"""SAELens' directory of published SAEs, read from the installed package without importing it and without the network.

The directory is a YAML file of 1.5 MB. What saebench needs of it is kept as JSON in the cache folder, because reading
YAML takes more than a second. A cache that cannot be read or written is no error.
"""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from saebench.atomic import write_atomic
from saebench.data import assets

_FIELDS = ("model", "repo_id", "conversion_func")
_VERSION = 1  # of the cache
_FILE = "sae-lens-directory.json"


@dataclass(frozen=True)
class Published:
    """A published SAE, as far as its name and its entry in a directory tell it.

    Attributes:
        reference: What names it in saebench.
        model: The language model.
        hook: The hook point; None if only its files tell it.
        d_sae: The number of latents; None if only its files tell it.
        l0: The mean number of active latents that its authors give; None if they give none.
        repository: Its repository on the hub; empty for an SAE that ships with saebench.
        path: Its folder or file there.
    """

    reference: str
    model: str
    hook: str | None
    d_sae: int | None
    l0: float | None
    repository: str = ""
    path: str = ""

    def row(self) -> dict[str, Any]:
        """Return it as the row of a table, without its place on the hub."""
        return {key: value for key, value in asdict(self).items() if key not in ("repository", "path")}


@cache
def releases() -> dict[str, dict[str, Any]]:
    """The releases of SAELens by name; empty where SAELens is not installed.

    A release has the keys ``model``, ``repo_id``, ``conversion_func`` and ``saes``, a list of ``[id, path, l0]``.
    """
    spec = importlib.util.find_spec("sae_lens")
    if spec is None or not spec.submodule_search_locations:
        return {}
    file = Path(spec.submodule_search_locations[0]) / "pretrained_saes.yaml"
    state = file.stat()
    key = [_VERSION, str(file), state.st_size, state.st_mtime_ns]
    kept = assets.home() / _FILE
    try:
        content = json.loads(kept.read_bytes())
        if content["key"] == key:
            return dict(content["releases"])
    except (OSError, ValueError, TypeError, KeyError):
        pass
    read = _parsed(file)
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        written = json.dumps({"key": key, "releases": read}).encode()
        write_atomic(kept, lambda open_file: open_file.write(written))
    except OSError:
        pass
    return read


def published() -> Iterator[Published]:
    """Yield every SAE of the directory; within a release in the order of layers and widths."""
    for release, entry in releases().items():
        saes = {sae_id: (path, l0) for sae_id, path, l0 in entry["saes"]}
        for sae_id in sorted(saes, key=_natural):
            path, l0 = saes[sae_id]
            yield Published(
                reference=f"sae_lens:{release}/{sae_id}",
                model=entry["model"],
                hook=_hook(release, sae_id, path, entry["conversion_func"]),
                d_sae=_width(release, sae_id, path, entry["conversion_func"]),
                l0=l0 if l0 is not None else _l0(path),
                repository=entry["repo_id"],
                path=path,
            )


def _parsed(file: Path) -> dict[str, dict[str, Any]]:
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    directory = yaml.load(file.read_text(encoding="utf-8"), Loader=loader)
    return {
        release: {
            **{name: str(entry.get(name) or "") for name in _FIELDS},
            "saes": [[str(sae["id"]), str(sae.get("path") or ""), _number(sae.get("l0"))] for sae in entry["saes"]],
        }
        for release, entry in directory.items()
    }


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _l0(path: str) -> float | None:
    """Return the L0 in the path of Gemma Scope's SAEs, which their canonical ids leave out."""
    match = re.search(r"average_l0_([0-9]+)$", path)
    return float(match[1]) if match else None


def _natural(text: str) -> list[tuple[int, str]]:
    """A key for sorting that has layer_2 before layer_10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"([0-9]+)", text)]


# Many ids begin with the hook point: blocks.8.hook_resid_pre_98304.
_NAMED_HOOK = re.compile(
    r"(blocks\.[0-9]+)\.(hook_(?:resid_pre|resid_mid|resid_post|mlp_out|attn_out)|(?:attn\.)?hook_z)"
)
_LAYER = re.compile(r"(?:layer_?|(?<![a-z])l)([0-9]+)")
# What the release, the id and the path hold together, and the hook point that they mean, by the loader of SAELens.
_KINDS: dict[str, tuple[tuple[str, str], ...]] = {
    "gemma_2": (
        ("embedding", "hook_embed"),
        (r"-res(-|/|$)", "blocks.{}.hook_resid_post"),
        (r"-mlp(-|/|$)", "blocks.{}.hook_mlp_out"),
        (r"-att(-|/|$)", "blocks.{}.attn.hook_z"),
    ),
    "gemma_2_transcoder": (("", "blocks.{}.ln2.hook_normalized->blocks.{}.hook_mlp_out"),),
    "gemma_3": (
        ("transcoder", "blocks.{}.mlp.hook_in->blocks.{}.hook_mlp_out"),
        ("resid_post", "blocks.{}.hook_resid_post"),
        ("mlp_out", "blocks.{}.hook_mlp_out"),
        ("attn_out", "blocks.{}.attn.hook_z"),
    ),
    "llama_scope": (
        (r"lxr|l\d+r", "blocks.{}.hook_resid_post"),
        (r"lxm|l\d+m", "blocks.{}.hook_mlp_out"),
        (r"lxa|l\d+a", "blocks.{}.hook_attn_out"),
    ),
    "llama_scope_r1_distill": (("", "blocks.{}.hook_resid_post"),),
    "goodfire": (("", "blocks.{}.hook_resid_post"),),
    "qwen_scope": (("", "blocks.{}.hook_resid_post"),),
    "dictionary_learning_1": (("resid_post", "blocks.{}.hook_resid_post"),),
    "mwhanna_transcoder": (("", "blocks.{}.mlp.hook_in->blocks.{}.hook_mlp_out"),),
}


def _hook(release: str, sae_id: str, path: str, loader: str) -> str | None:
    """Return the hook point that names tell, as SAELens' loaders understand them; None where they tell none."""
    if named := _NAMED_HOOK.match(sae_id) or _NAMED_HOOK.search(path):
        return f"{named[1]}.attn.hook_z" if named[2] == "hook_z" else named[0]
    text = f"{release}/{sae_id}/{path}".lower()
    template = next((hook for pattern, hook in _KINDS.get(loader, ()) if re.search(pattern, text)), None)
    if template is None or "{}" not in template:
        return template
    layer = _LAYER.search(sae_id.lower()) or _LAYER.search(path.lower())
    return template.replace("{}", layer[1]) if layer else None


_WIDTHS = (
    (re.compile(r"width[-_]([0-9]+)(k|m)(?![a-z0-9])"), 1024),  # width_16k
    (re.compile(r"[-_/]w([0-9]+)(k)(?![a-z0-9])"), 1024),  # w80k
    (re.compile(r"[-_/]([0-9]+)(k)(?![a-z0-9])"), 0),  # v5_32k, but not the size of a text such as Math-220k
)
_POWER = re.compile(r"2pow([0-9]{1,2})(?![0-9])")  # width-2pow12
_IN_FULL = re.compile(r"(?:hook_[a-z_]+_|_ds)([0-9]{3,})(?![0-9])")  # blocks.8.hook_resid_pre_98304
_LLAMA_SCOPE = re.compile(r"_([0-9]+)x$")  # times the width of Llama 3.1 8B


def _width(release: str, sae_id: str, path: str, loader: str) -> int | None:
    """Return the number of latents that names tell; None where they tell none."""
    if loader == "llama_scope" and (times := _LLAMA_SCOPE.search(sae_id)):
        return 4096 * int(times[1])
    for text in (sae_id.lower(), path.lower(), release.lower()):
        if match := _POWER.search(text):
            return int(2 ** int(match[1]))
        if match := _IN_FULL.search(text):
            return int(match[1])
        for pattern, unit in _WIDTHS:
            if match := pattern.search(text):
                number = int(match[1]) * (1000 if match[2] == "k" else 1_000_000)
                if width := _power_of_two(number) or int(match[1]) * unit:
                    return width
    return None


def _power_of_two(rounded: int) -> int | None:
    """Return the power of two that names write in thousands or millions: 16k is 16,384, 131k 131,072, 1m 1,048,576."""
    power = 2 ** rounded.bit_length()
    return next((p for p in (power // 2, power) if 0 <= p - rounded < 0.07 * p), None)
