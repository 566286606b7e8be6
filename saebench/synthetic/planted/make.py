"""Writing a planted language model and everything about it into a folder."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from torch import Tensor

from saebench.atomic import write_atomic
from saebench.errors import ModelError, UsageError, did_you_mean
from saebench.files import read_json
from saebench.synthetic.planted import model_files, texts
from saebench.synthetic.planted.directions import directions
from saebench.synthetic.planted.process import Process
from saebench.synthetic.planted.readout import Quality, fit, quality
from saebench.synthetic.planted.recipe import RECIPES, VERSION
from saebench.synthetic.planted.truth import DESCRIPTION, MANIFEST, TENSORS, Planted, load_planted, tensors_of
from saebench.synthetic.planted.words import vocabulary

# The gain of each kind of concept. It makes up for the share of words that tell of it, so that activations are near 1.
_GAINS = {"language": 1.0, "topic": 2.0, "subtopic": 3.0, "marker": 5.0, "tone": 5.0}
JUDGE = "judge"  # a folder with a second model, whose readout knows other documents: it judges what the model writes
_JUDGE_SHARE = 0.5  # of the tokens that the model's own readout is fitted to


def make(folder: str | Path, recipe: str = "small", seed: int = 0) -> Path:
    """Write a planted language model, its features and its texts into a folder.

    Every file is written whole or not at all, and the manifest, which holds the hashes of all others, is written last.
    Files of other names are left alone. The same recipe and seed give the same bytes.

    Args:
        folder: The folder; it is made if it does not exist.
        recipe: ``small`` or ``tiny``.
        seed: The seed of everything that is drawn.

    Returns:
        The folder, which is a reference to a model.

    Raises:
        UsageError: There is no such recipe.
    """
    from safetensors.torch import save

    if recipe not in RECIPES:
        raise UsageError(
            f"There is no recipe {recipe!r} of planted models.{did_you_mean(recipe, RECIPES)} Known are "
            f"{', '.join(RECIPES)}."
        )
    process, planted, readers = _planted(recipe, seed)
    measured = quality(planted, process)
    description = {
        "recipe": recipe,
        "seed": seed,
        "version": VERSION,
        "sizes": asdict(RECIPES[recipe]),
        "languages": list(process.vocabulary.languages),
        "features": list(planted.names),
        "nats_per_word": {key: round(value, 4) for key, value in asdict(measured).items()},
    }
    judge = replace(planted, readout=fit(planted, process, "judge", _JUDGE_SHARE))
    content = {
        **_model(planted, process, readers, seed),
        **{f"{JUDGE}/{name}": data for name, data in _model(judge, process, readers, seed).items()},
        TENSORS: save(tensors_of(planted)),
        DESCRIPTION: model_files.as_json(description),
        **texts.files(process),
    }
    folder = Path(folder)
    (folder / JUDGE).mkdir(parents=True, exist_ok=True)
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in content.items()}
    for name, data in {**content, MANIFEST: model_files.as_json(hashes)}.items():
        write_atomic(folder / name, partial(_write, data), sync=False)
    return folder


def _model(planted: Planted, process: Process, readers: Tensor, seed: int) -> dict[str, bytes]:
    """Return the files of a model and of its tokenizer."""
    from safetensors.torch import save

    return {
        "config.json": model_files.as_json(model_files.config(planted)),
        "model.safetensors": save(model_files.weights(planted, readers, seed), metadata={"format": "pt"}),
        **model_files.tokenizer_files(process.vocabulary),
    }


def _write(data: bytes, file: BinaryIO) -> None:
    file.write(data)


def verify(folder: str | Path) -> None:
    """Raise ModelError unless a folder holds every file that `make` wrote, unchanged."""
    hashes = read_json(Path(folder) / MANIFEST, "manifest of a planted model", ModelError)
    if not isinstance(hashes, dict):
        raise ModelError(f"{MANIFEST} in {folder} must hold an object; make the model again.")
    for name, expected in hashes.items():
        path = Path(folder) / name
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != expected:
            raise ModelError(f"{name} in {folder} is missing or has changed; make the model again.")


def load_process(folder: str | Path) -> Process:
    """Return the process of the texts in a folder that `make` wrote. Raises ModelError for another folder."""
    description = read_json(Path(folder) / DESCRIPTION, "description of a planted model", ModelError)
    known = isinstance(description, dict) and description.get("recipe") in RECIPES
    if not known or description.get("version") != VERSION or type(description.get("seed")) is not int:
        raise ModelError(f"{folder} holds no planted model of this version of saebench; make it again.")
    seed: int = description["seed"]
    return Process(vocabulary(RECIPES[description["recipe"]], seed), seed)


def measure(folder: str | Path, n: int = 100) -> Quality:
    """Return how well the model in a folder predicts ``n`` new documents of its process."""
    return quality(load_planted(folder), load_process(folder), n)


def _planted(recipe: str, seed: int) -> tuple[Process, Planted, Tensor]:
    """Return the process, the features, and the vectors that read what tokens tell of."""
    sizes = RECIPES[recipe]
    words = vocabulary(sizes, seed)
    process, drawn = Process(words, seed), directions(words, sizes.d, seed)
    planted = Planted(
        names=(*(f"word:{token}" for token in words.tokens), *words.concepts),
        directions=torch.from_numpy(np.concatenate([drawn.words, drawn.concepts])).float(),
        bias=torch.from_numpy(drawn.bias).float(),
        evidence=torch.from_numpy(words.evidence).float(),
        gain=torch.tensor([_GAINS[name.partition(":")[0]] for name in words.concepts]),
        parents=torch.from_numpy(words.parents),
        readout=torch.zeros(len(words.tokens), sizes.d),
    )
    return process, replace(planted, readout=fit(planted, process)), torch.from_numpy(drawn.readers).float()
