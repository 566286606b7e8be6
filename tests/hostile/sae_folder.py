"""A good SAE in a SAELens folder, and edits that make it hostile."""

from __future__ import annotations

import json
import os
import pickle
import struct
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

from tests.hostile.case import EXECUTED, Case, Surroundings

SITE = "blocks.1.hook_resid_post"
D_IN, D_SAE = 32, 64
CONFIG, WEIGHTS, SCALER = "cfg.json", "sae_weights.safetensors", "activation_scaler.json"
FAILED, SCORED, EITHER, REFUSED = frozenset({1}), frozenset({0}), frozenset({0, 1}), frozenset({2})
GOOD: dict[str, Any] = {
    "architecture": "topk",
    "d_in": D_IN,
    "d_sae": D_SAE,
    "k": 4,
    "dtype": "float32",
    "device": "cpu",
    "apply_b_dec_to_input": True,
    "normalize_activations": "none",
    "reshape_activations": "none",
    "rescale_acts_by_decoder_norm": False,
    "metadata": {"hook_name": SITE, "sae_lens_version": "6.54.12"},
}

Edit = Callable[[Path], object]


@dataclass(frozen=True)
class Hostile:
    """One hostile SAE: a copy of the good one that ``edit`` changes.

    Attributes:
        name: Its name, unique in the family.
        edit: Is called with the folder.
        says: Texts of which the output must hold one.
        codes: The exit codes that are right for a run with a good SAE beside it.
        body: What the reference names below the folder of the case.
    """

    name: str
    edit: Edit
    says: tuple[str, ...]
    codes: frozenset[int]
    body: str

    def write(self, folder: Path) -> str:
        """Write the SAE into ``folder`` and return its reference."""
        sae = folder / "sae"
        sae.mkdir(parents=True)
        draw = np.random.default_rng(0)
        shapes = {"W_enc": (D_IN, D_SAE), "W_dec": (D_SAE, D_IN), "b_enc": (D_SAE,), "b_dec": (D_IN,)}
        tensors = {key: draw.normal(size=shape).astype(np.float32) * 0.3 for key, shape in shapes.items()}
        save_file(tensors, sae / WEIGHTS)
        (sae / CONFIG).write_text(json.dumps(GOOD), "utf-8")
        self.edit(sae)
        return f"sae_lens:{folder / self.body}"

    def case(self) -> Case:
        """Return the case of a run over this SAE and a good one."""

        def write(folder: Path, around: Surroundings) -> Sequence[str]:
            sae = self.write(folder)
            options = ["--tasks", "core", "--preset", "smoke", "--limit", "4", "--device", "cpu", "--dtype", "float32"]
            inputs = ["--model", str(around.model), "--text", f"jsonl:{around.text}"]
            saes = ["--sae", sae, "--sae", f"sae_lens:{around.sae}"]
            return ["run", *options, *inputs, *saes, "--cache-budget", "0", "--out", str(folder / "out")]

        return Case(self.name, "saes", write, self.says, self.codes, seconds=180)


def hostile(name: str, edit: Edit, *says: str, codes: frozenset[int] = FAILED, body: str = "sae") -> Hostile:
    """Return a hostile SAE; by default it fails, and the good SAE beside it does not."""
    return Hostile(name, edit, says, codes, body)


# ---------------------------------------------------------------- edits


def change(edit: Callable[[dict[str, Any]], object]) -> Edit:
    """Change ``cfg.json``."""

    def apply(folder: Path) -> None:
        config = json.loads((folder / CONFIG).read_text("utf-8"))
        edit(config)
        (folder / CONFIG).write_text(json.dumps(config), "utf-8")

    return apply


def put(**values: Any) -> Edit:
    """Set fields of ``cfg.json``."""
    return change(lambda config: config.update(values))


def put_metadata(**values: Any) -> Edit:
    """Set fields of the metadata in ``cfg.json``."""
    return change(lambda config: config["metadata"].update(values))


def drop(*names: str) -> Edit:
    """Remove fields of ``cfg.json``."""
    return change(lambda config: [config.pop(name) for name in names])


def content(data: bytes | str, file: str = CONFIG) -> Edit:
    """Replace the content of a file."""
    return lambda folder: (folder / file).write_bytes(data if isinstance(data, bytes) else data.encode())


def tensors(edit: Callable[[dict[str, Any]], object]) -> Edit:
    """Change the weights."""

    def apply(folder: Path) -> None:
        loaded = load_file(folder / WEIGHTS)
        edit(loaded)
        save_file({key: np.ascontiguousarray(value) for key, value in loaded.items()}, folder / WEIGHTS)

    return apply


def torch_tensors(edit: Callable[[dict[str, Any], Any], object]) -> Edit:
    """Change the weights with torch, which knows more types of numbers."""

    def apply(folder: Path) -> None:
        import torch
        from safetensors.torch import load_file, save_file

        loaded = load_file(folder / WEIGHTS)
        edit(loaded, torch)
        save_file(loaded, folder / WEIGHTS)

    return apply


def header(edit: Callable[[dict[str, Any]], Any]) -> Edit:
    """Change the header of the weights and leave the data as they are."""

    def apply(folder: Path) -> None:
        data = (folder / WEIGHTS).read_bytes()
        (length,) = struct.unpack("<Q", data[:8])
        old = json.loads(data[8 : 8 + length])
        new = edit(old) or old
        text = new if isinstance(new, bytes) else json.dumps(new).encode()
        (folder / WEIGHTS).write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])

    return apply


def data(edit: Callable[[bytes], bytes], file: str = WEIGHTS) -> Edit:
    """Change the bytes of a file."""
    return lambda folder: (folder / file).write_bytes(edit((folder / file).read_bytes()))


def replace(file: str, make: Callable[[Path], object]) -> Edit:
    """Remove a file and let ``make`` put something at its path."""

    def apply(folder: Path) -> None:
        (folder / file).unlink(missing_ok=True)
        make(folder / file)

    return apply


def replace_folder(make: Callable[[Path], object]) -> Edit:
    """Remove the folder and let ``make`` put something at its path."""

    def apply(folder: Path) -> None:
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
        make(folder)

    return apply


def both(*edits: Edit) -> Edit:
    """Apply several edits."""
    return lambda folder: [edit(folder) for edit in edits]


class _Mark:
    """A pickle that creates a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def marking_pickle(path: Path, protocol: int = 4) -> None:
    """Write a pickle that leaves the mark of executed code in the folder of the case when it is loaded."""
    path.write_bytes(pickle.dumps(_Mark(_case_folder(path) / EXECUTED), protocol))


def marking_archive(path: Path) -> None:
    """Write such a pickle in the form of ``torch.save``."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(_Mark(_case_folder(path) / EXECUTED), 2))
        archive.writestr("archive/version", "3\n")


def _case_folder(path: Path) -> Path:
    return path.parent if path.name == "sae" else path.parent.parent
