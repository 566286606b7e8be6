"""Fingerprints of SAEs that somebody's code makes: they change with what the SAE does, and with nothing else."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from saebench.errors import SAELoadError
from saebench.sae.adapt import as_sae
from saebench.sae.base import BaseAdapter, LoadContext
from saebench.sae.protocol import Capability, HookSite
from saebench.sae.reference import load_sae

MODULE = '''
import torch
from saebench.sae.base import BaseAdapter, generator
from saebench.sae.protocol import Capability, HookSite

class Mine(BaseAdapter):
    """A docstring."""

    def __init__(self):
        super().__init__(name="mine", architecture="mine", hook=HookSite.at("blocks.1.hook_resid_post"), d_in=8,
                         d_sae=64, capabilities=frozenset({Capability.LINEAR_DECODER, Capability.POSITION_WISE}))
        draw = generator(0, "test")
        self.register_buffer("W", torch.randn(8, 64, generator=draw))

    def encode(self, x):
        return (x @ self.W).relu()

    def decode(self, z, x=None):
        return z @ self.W.T

    def decoder_directions(self):
        return self.W.T

    def settings(self):
        return {}

def build():
    return Mine()
'''


def fingerprint(folder: Path, source: str) -> str:
    folder.mkdir(exist_ok=True)
    (folder / "mine.py").write_text(source)
    return load_sae(f"python:{folder / 'mine.py'}:build", LoadContext()).fingerprint()


@pytest.fixture
def original(tmp_path: Path) -> str:
    return fingerprint(tmp_path, MODULE)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("(x @ self.W).relu()", "(x @ self.W).relu() * 1.01"),
        ("(x @ self.W).relu()", "(x @ self.W - 0.1).relu()"),
        ("(x @ self.W).relu()", "(x @ self.W)"),
        ("(x @ self.W).relu()", "(x @ self.W).relu().index_fill(-1, torch.tensor([5]), 0)"),
        ("z @ self.W.T", "z @ self.W.T + 1"),
        ("z @ self.W.T", "(z @ self.W.T) * float('nan')"),
        ("z @ self.W.T", "z @ self.W.T if x is None else x"),
        ("        return self.W.T\n", "        return self.W.T * 2\n"),
        ("blocks.1.hook_resid_post", "blocks.2.hook_resid_post"),
        ('architecture="mine"', 'architecture="other"'),
        ("Capability.LINEAR_DECODER, ", ""),
        ('"test"', '"other"'),
        ("return {}", "return {'k': 3}"),
    ],
)
def test_edited_code_has_another_fingerprint(tmp_path: Path, original: str, old: str, new: str) -> None:
    assert old in MODULE
    assert fingerprint(tmp_path, MODULE.replace(old, new)) != original


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("A docstring.", "Another docstring."),
        ("(x @ self.W).relu()", "torch.nn.functional.relu(torch.einsum('...d,ds->...s', x, self.W))"),
        ("z @ self.W.T", "(z.double() @ self.W.double().T).float()"),
        ("import torch\n", "import torch\ntorch.manual_seed(7)\n"),
    ],
)
def test_code_that_does_the_same_has_the_same_fingerprint(tmp_path: Path, original: str, old: str, new: str) -> None:
    assert old in MODULE
    assert fingerprint(tmp_path / "elsewhere", MODULE.replace(old, new, 1)) == original


def test_weights_count_even_where_the_sae_forgets_them(tmp_path: Path) -> None:
    forgetful = MODULE + "\nMine.fingerprint = lambda self: 'always the same'\n"
    # A row that nothing reads: only the hash of the weights tells.
    unread = forgetful.replace(
        'self.register_buffer("W"', 'self.register_buffer("unread", torch.ones(3))\n        self.register_buffer("W"'
    )
    first = fingerprint(tmp_path, unread)
    assert fingerprint(tmp_path, unread.replace("torch.ones(3)", "torch.zeros(3)")) != first


def test_an_sae_that_samples_keeps_its_fingerprint(tmp_path: Path) -> None:
    sampling = MODULE.replace("(x @ self.W).relu()", "(x @ self.W).relu() + torch.randn(x.shape[:-1] + (64,))")
    state = torch.get_rng_state()
    first = fingerprint(tmp_path, sampling)
    assert torch.equal(torch.get_rng_state(), state)
    assert fingerprint(tmp_path, sampling) == first


class Plain(BaseAdapter):
    def __init__(self) -> None:
        super().__init__(name="plain", architecture="plain", hook=HookSite.at("a"), d_in=4, d_sae=4)

    def encode(self, x: Tensor) -> Tensor:
        return x.float()

    def decode(self, z: Tensor, x: Tensor | None = None) -> Tensor:
        return z


def test_copies_keep_it_and_wrappers_see_it() -> None:
    from saebench.sae.baselines import PermutedDecoderBaseline

    bare, covered = Plain(), as_sae(Plain(), "python:x:y")
    assert covered.fingerprint() != bare.fingerprint()
    assert copy.deepcopy(covered).fingerprint() == covered.fingerprint()
    assert pickle.loads(pickle.dumps(covered)).fingerprint() == covered.fingerprint()  # our own bytes
    permuted = [PermutedDecoderBaseline(inner, name="p", seed=0).fingerprint() for inner in (bare, covered)]
    assert permuted[0] != permuted[1]


class Failing(Plain):
    def encode(self, x: Tensor) -> Tensor:
        raise RuntimeError("no")


def test_an_sae_that_fails_is_loaded_and_fails_where_it_is_used() -> None:
    sae = as_sae(Failing(), "python:x:y")
    assert sae.fingerprint() != as_sae(Plain(), "python:x:y").fingerprint()
    with pytest.raises(RuntimeError, match="no"):
        sae.encode(torch.zeros(1, 4))


class Slotted:
    """An SAE that takes no attributes."""

    __slots__ = ()
    name, architecture, hook, d_in, d_out, d_sae = "slots", "plain", HookSite.at("a"), 4, 4, 4
    capabilities: frozenset[Capability] = frozenset()
    model_name, control = None, False

    def encode(self, x: Tensor) -> Tensor:
        return x

    def decode(self, z: Tensor, x: Tensor | None = None) -> Tensor:
        return z

    def to(self, device: Any) -> Any:
        return self

    def fingerprint(self) -> str:
        return "abc"

    def encode_sparse(self, x: Tensor) -> Any: ...
    def decoder_directions(self) -> Any: ...
    def encoder_directions(self) -> Any: ...


def test_an_object_that_takes_no_attributes_is_refused() -> None:
    with pytest.raises(SAELoadError, match=r"takes no attribute `fingerprint`.*`__slots__`"):
        as_sae(Slotted(), "python:x:y")
