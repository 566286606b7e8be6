"""ITDA dictionaries are read by matching pursuit, as their library reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from saebench.errors import NotApplicableError, SAELoadError
from saebench.sae.base import LoadContext
from saebench.sae.conformance import run_checks
from saebench.sae.hook import HookSite
from saebench.sae.itda import ITDA
from saebench.sae.reference import load_sae
from tests.sae.affine.files import D, K, M, inputs, relative, weights

METADATA = {
    "k": K, "layer": 3, "lm_name": "gpt2", "submodule_name": None, "activation_dim": D, "loss_threshold": 0.4,
    "max_dict_size": M, "seed": 0,
}  # fmt: skip


def unit_rows(seed: int = 0) -> Tensor:
    (atoms,) = weights((M, D), seed=seed)
    return atoms / atoms.norm(dim=-1, keepdim=True)


def write(folder: Path, atoms: Any = None, **metadata: Any) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    torch.save(unit_rows() if atoms is None else atoms, folder / "atoms.pt")
    torch.save(torch.zeros(M, 2, dtype=torch.long), folder / "atom_indices.pt")
    (folder / "metadata.yaml").write_text(yaml.safe_dump({**METADATA, **metadata}))
    return f"itda:{folder}"


def pursuit(x: Tensor, atoms: Tensor, k: int) -> Tensor:
    """Matching pursuit of one token after the other in float64."""
    z = torch.zeros(len(x), len(atoms), dtype=torch.float64)
    for token, residual in enumerate(x.double()):
        for _ in range(k):
            products = [float(atom.double() @ residual) for atom in atoms]
            best = max(range(len(atoms)), key=lambda i: abs(products[i]))
            z[token, best] += products[best]
            residual = residual - products[best] * atoms[best].double()
    return z


def test_latents_and_reconstructions_are_those_of_matching_pursuit(tmp_path: Path) -> None:
    sae = load_sae(write(tmp_path), LoadContext())
    x = inputs()[:16]

    z = sae.encode(x)

    expected = pursuit(x, unit_rows(), K)
    assert relative(z, expected) < 1e-5
    assert relative(sae.decode(z), expected @ unit_rows().double()) < 1e-5
    assert (z < 0).any()
    assert (str(sae.hook), sae.model_name, sae.architecture) == ("blocks.3.hook_resid_post", "gpt2", "itda")


def test_an_atom_that_is_chosen_twice_has_the_sum_of_both_coefficients() -> None:
    atoms = torch.tensor([[1.0, 0.0, 0.0], [0.8, 0.6, 0.0], [0.0, 0.0, 1.0]])
    sae = ITDA(atoms, 3, name="x", hook=HookSite.at("blocks.0.hook_resid_post"))

    z = sae.encode(torch.tensor([1.0, 0.1, 0.0]))

    # 1 of the first atom leaves (0, 0.1), 0.06 of the second leaves (-0.048, 0.064), and the first is chosen again.
    assert torch.allclose(z, torch.tensor([1 - 0.048, 0.06, 0.0]), atol=1e-6)


def test_it_passes_the_conformance_suite_and_has_no_encoder_directions(tmp_path: Path) -> None:
    reference = write(tmp_path)

    results = run_checks(lambda: load_sae(reference, LoadContext()), activations=inputs())

    assert [(result.name, result.detail) for result in results if not result.ok] == []
    with pytest.raises(NotApplicableError, match="each read one fixed direction"):
        load_sae(reference, LoadContext()).encoder_directions()


def test_the_reference_may_name_k_and_the_hook(tmp_path: Path) -> None:
    sae = load_sae(write(tmp_path, k=None, layer=None) + "?k=3&hook=blocks.7.hook_mlp_out", LoadContext())

    assert ((sae.encode(inputs()) != 0).sum(-1) <= 3).all()
    assert str(sae.hook) == "blocks.7.hook_mlp_out"


@pytest.mark.parametrize(
    ("atoms", "metadata", "message"),
    [
        (unit_rows() * 1.1, {}, "norms of its atoms are from 1.1 to 1.1"),
        (unit_rows().index_fill(0, torch.tensor([0]), float("nan")), {}, "NaN or Inf"),
        (unit_rows()[0], {}, r"must be a matrix \[d_sae, d_in\]"),
        (unit_rows().long(), {}, "type int64"),
        (torch.zeros(0, D), {}, r"have shape \[0, 16\]"),
        ({"atoms": unit_rows()}, {}, "holds a dict instead of a tensor"),
        (None, {"k": M + 1}, f"k={M + 1} must be from 1 to the number of atoms"),
        (None, {"k": 0}, "k=0 must be"),
        (None, {"k": "five"}, r"add \?k=NUMBER"),
        (None, {"layer": None}, r"add \?hook="),
        (None, {"submodule_name": "something.else"}, r"add \?hook="),
    ],
)
def test_what_cannot_be_run_is_refused(atoms: Any, metadata: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(SAELoadError, match=message):
        load_sae(write(tmp_path, atoms, **metadata), LoadContext())


@pytest.mark.parametrize("file", ["atoms.pt", "metadata.yaml"])
def test_a_missing_file_is_named(file: str, tmp_path: Path) -> None:
    reference = write(tmp_path)
    (tmp_path / file).unlink()

    with pytest.raises(SAELoadError, match=file):
        load_sae(reference, LoadContext())


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path) -> None:
    write(tmp_path)

    with pytest.raises(SAELoadError, match="name the folder"):
        load_sae(f"itda:{tmp_path / 'atoms.pt'}", LoadContext())
