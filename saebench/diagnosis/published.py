"""The L0 and FVU that were published for an SAE in its card, its metadata, SAELens' directory or its folder's name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saebench.sae.protocol import SAE
from saebench.sae.ref import Reference
from saebench.sae.sae_lens_config import read_config

_PARTS = 2  # of a path, which may name an L0; folders above hold many SAEs

_L0_IN_NAME = re.compile(r"(?:average_l0|l0|(?:^|[_/-])k)[_=-]?(\d+(?:\.\d+)?)(?![\d.]*[a-zA-Z])", re.IGNORECASE)


@dataclass(frozen=True)
class Published:
    """Numbers of an SAE that its authors give.

    Attributes:
        l0: The mean number of active latents, if known.
        fvu: The fraction of variance unexplained, if known.
        source: Where they stand.
    """

    l0: float | None = None
    fvu: float | None = None
    source: str = ""


def published(ref: Reference, sae: SAE) -> Published:
    """Return what is known of an SAE; the first source that knows one of the numbers counts."""
    for source, numbers in _sources(ref, sae):
        l0, fvu = (_positive(numbers.get(key)) for key in ("l0", "fvu"))
        if l0 is not None or fvu is not None:
            return Published(l0, fvu, source)
    return Published()


def l0_in_name(name: str) -> float | None:
    """Return the L0 or the k that a path names, the last one if there are several.

    >>> l0_in_name("layer_20/width_16k/average_l0_71"), l0_in_name("topk-k32-s0"), l0_in_name("width_16k/canonical")
    (71.0, 32.0, None)
    """
    named = _L0_IN_NAME.findall(name)
    return float(named[-1]) if named else None


def _sources(ref: Reference, sae: SAE) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if ref.scheme == "zoo":
        from saebench.sae.zoo import zoo_card

        yield "its card", zoo_card(ref.body)
    if ref.scheme == "sae_lens":
        yield "SAELens' directory", _in_directory(ref.body)
    metadata = _metadata(ref, sae)
    yield "its metadata", metadata
    details = metadata.get("training_architecture_details")
    if isinstance(details, Mapping):
        yield "the k of its metadata", {"l0": details.get("k")}
    if ref.scheme != "python":
        yield "its name", {"l0": l0_in_name("/".join(ref.body.split("/")[-_PARTS:]))}


def _in_directory(body: str) -> Mapping[str, Any]:
    from saebench.sae.sae_lens_scheme import sae_lens_releases

    release, _, sae_id = body.partition("/")
    if sae_id not in sae_lens_releases().get(release, ()):
        return {}
    from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

    entry = get_pretrained_saes_directory()[release]
    explained = (entry.expected_var_explained or {}).get(sae_id)
    unexplained = 1 - explained if isinstance(explained, float) and 0 < explained < 1 else None
    return {"l0": (entry.expected_l0 or {}).get(sae_id), "fvu": unexplained}


def _metadata(ref: Reference, sae: SAE) -> Mapping[str, Any]:
    """The metadata of a SAELens SAE: those of its folder, or those that it holds."""
    folder = Path(ref.body).expanduser()
    if ref.scheme == "sae_lens" and folder.is_dir():
        content = read_config(folder, str(ref)).get("metadata")
        return content if isinstance(content, Mapping) else {}
    lens = getattr(getattr(sae, "inner", sae), "sae", None)
    metadata: Any = getattr(getattr(lens, "cfg", None), "metadata", None)
    held = metadata.to_dict() if hasattr(metadata, "to_dict") else {}
    return held if isinstance(held, Mapping) else {}


def _positive(value: Any) -> float | None:
    return float(value) if type(value) in (int, float) and value > 0 else None
