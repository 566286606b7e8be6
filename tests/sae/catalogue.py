"""An example of every format of SAEs and of every architecture: its files, an input, and what its formula gives.

The examples of the other modules stand here in one table, so that what must hold for all formats has one place to look.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.sae import conftest as sae_lens_examples
from tests.sae import test_itda as itda
from tests.sae import test_polysae as polysae
from tests.sae import test_temporal as temporal
from tests.sae.affine import examples as affine
from tests.sae.affine.files import inputs, weights
from tests.sae.several import files as several

WIDTH = 16  # of every hook point


@dataclass(frozen=True)
class Case:
    """The files of one SAE.

    Attributes:
        reference: A reference to them.
        x: An input, ``[tokens, d_in]``, or ``[sequences, positions, d_in]`` where the SAE reads whole sequences.
        expected: What the formula gives for it in float64, the latents and the reconstruction; None where the only
            source is the library itself.
    """

    reference: str
    x: Tensor
    expected: tuple[Tensor, Tensor] | None

    @property
    def path(self) -> Path:
        """What the reference names."""
        return Path(self.reference.partition(":")[2].partition("?")[0])


def _affine(name: str, root: Path) -> Case:
    example, x = affine.EXAMPLES[name](root), inputs()
    return Case(example.reference, x, example.formula(x.double()))


def _several(name: str, root: Path) -> Case:
    example = several.EXAMPLES[name](root)
    x = torch.randn(64, example.sites * WIDTH, generator=torch.Generator().manual_seed(1)) * 2 + 0.3
    z, xhat = example.formula(list(x.double().split(WIDTH, -1)))
    return Case(example.reference, x, (z, torch.cat(xhat, -1)))


def _itda(root: Path) -> Case:
    x, atoms = inputs()[:16], itda.unit_rows()
    z = itda.pursuit(x, atoms, itda.K)
    return Case(itda.write(root), x, (z, z @ atoms.double()))


def _polysae(name: str, root: Path) -> Case:
    x = inputs()
    return Case(polysae.write(root, name), x, polysae.formula(x.double(), polysae.CASES[name]))


def _temporal(root: Path, *, tied: bool) -> Case:
    x, stored = temporal.sequences(), temporal.tensors(tied=tied)
    parts = [temporal.formula(sequence, stored) for sequence in x]
    expected = torch.stack([z for z, _ in parts]), torch.stack([xhat for _, xhat in parts])
    return Case(temporal.write(root, change={"tied_weights": tied}), x, expected)


def _sae_lens(name: str, root: Path) -> Case:
    transcoder = "d_out" in sae_lens_examples.CASES[name][2]
    sae_lens_examples.build(name, **({"d_out": WIDTH} if transcoder else {})).save_model(root)
    x = torch.randn(3, 8, WIDTH, generator=torch.Generator().manual_seed(5)) * 2 + 0.5
    return Case(f"sae_lens:{root}", x, None)


def _sae_lens_old(root: Path) -> Case:
    """The flat settings that SAELens wrote before version 6."""
    We, Wd, be, bd = weights((WIDTH, 32), (32, WIDTH), (32,), (WIDTH,))
    settings = {"model_name": "tiny", "hook_point": "blocks.1.hook_resid_post", "hook_point_layer": 1, "d_in": WIDTH}
    settings |= {"d_sae": 32, "dtype": "torch.float32", "device": "cpu", "prepend_bos": True, "context_size": 128}
    root.mkdir(parents=True, exist_ok=True)
    (root / "cfg.json").write_text(json.dumps(settings))
    save_file({"W_enc": We, "W_dec": Wd, "b_enc": be, "b_dec": bd}, root / "sae_weights.safetensors")
    x = inputs()
    z = ((x.double() - bd) @ We.double() + be).clamp(min=0)
    return Case(f"sae_lens:{root}", x, (z, z @ Wd.double() + bd))


CASES: dict[str, Callable[[Path], Case]] = {
    **{f"sae_lens {name}": partial(_sae_lens, name) for name in sae_lens_examples.CASES},
    "sae_lens of version 5": _sae_lens_old,
    **{name: partial(_affine, name) for name in affine.EXAMPLES},
    # The name of the repository tells that it is a transcoder; the files are those of the SAEs.
    "gemma_scope transcoder": lambda root: _affine("gemma_scope", root / "gemma-scope-2b-pt-transcoders"),
    "itda": _itda,
    "temporal": partial(_temporal, tied=True),
    "temporal untied": partial(_temporal, tied=False),
    **{f"polysae {name}": partial(_polysae, name) for name in polysae.CASES},
    **{f"several {name}": partial(_several, name) for name in several.EXAMPLES},
}
