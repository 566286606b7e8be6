from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from saebench.errors import SAELoadError
from saebench.sae.adapt import as_sae
from saebench.sae.base import LoadContext
from saebench.sae.factory import convert
from saebench.sae.hook import HookSite
from saebench.sae.protocol import REQUIRED_MEMBERS
from saebench.sae.reference import load_sae
from saebench.sae.sae_lens_adapter import SAELensAdapter

SOURCE = """
from saebench.sae.baselines import NeuronBaseline
from saebench.sae.protocol import HookSite

def build(width=4, site="a"):
    return NeuronBaseline(width, name="mine", hook=HookSite.at(site))

def number():
    return 3

def broken():
    return 1 / 0
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "my_saes.py").write_text(SOURCE)
    return tmp_path / "my_saes.py"


def test_file(file: Path) -> None:
    sae = load_sae(f"python:{file}:build?width=7&site=b", LoadContext())
    assert (sae.d_in, sae.hook.site_in, sae.name) == (7, "b", "mine")


def test_module(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(file.parent)
    assert load_sae("python:my_saes:build", LoadContext()).d_in == 4


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("number", "gave an object of type int, which lacks name, architecture"),
        ("broken", "ZeroDivisionError"),
        ("absent", "no attribute 'absent'"),
        ("build?depth=2", "do not fit the factory's signature.*depth"),
    ],
)
def test_failures_name_the_cause(file: Path, target: str, message: str) -> None:
    with pytest.raises(SAELoadError, match=message):
        load_sae(f"python:{file}:{target}", LoadContext())


def test_saelens_object_is_adapted(lens: Callable[..., Any]) -> None:
    sae = as_sae(lens("topk"), "python:x:y")
    assert isinstance(sae, SAELensAdapter)
    assert sae.name == "python:x:y"


def test_missing_members_are_listed_in_full(lens: Callable[..., Any]) -> None:
    class Partial:
        name = architecture = "x"
        encode = decode = None

    with pytest.raises(SAELoadError) as caught:
        as_sae(Partial(), "python:x:y")
    listed = str(caught.value).split("lacks ")[1].split(" of saebench")[0].split(", ")
    assert set(listed) == set(REQUIRED_MEMBERS) - {"name", "architecture", "encode", "decode"}
    assert "control" not in listed
    assert "fingerprint" in listed
    assert "d_in" in listed


def test_a_foreign_sae_is_no_control_unless_it_says_so() -> None:
    class Foreign:
        def __init__(self, **members: Any) -> None:
            vars(self).update(dict.fromkeys(REQUIRED_MEMBERS), **members)

    assert as_sae(Foreign(), "python:x:y").control is False
    assert as_sae(Foreign(control=True), "python:x:y").control is True

    class Slotted:
        __slots__ = REQUIRED_MEMBERS

        def __init__(self) -> None:
            for member in REQUIRED_MEMBERS:
                setattr(self, member, None)

    with pytest.raises(SAELoadError, match=r"Slotted has no attribute `control`.*add `control = False`"):
        as_sae(Slotted(), "python:x:y")


@pytest.mark.parametrize(
    ("text", "value"), [("3", 3), ("3.5", 3.5), ("1e-3", 1e-3), ("true", True), ("false", False), ("None", "None")]
)
def test_options_are_converted(text: str, value: object) -> None:
    assert convert(text) == value
    assert type(convert(text)) is type(value)


PLAIN = """
class Plain:
    def encode(self, x):
        return x.clamp(min=0)

    def decode(self, z):
        return z

def build():
    return Plain()
"""


def test_an_object_with_no_more_than_encode_and_decode(tmp_path: Path) -> None:
    (tmp_path / "plain.py").write_text(PLAIN)
    ref = f"python:{tmp_path / 'plain.py'}:build"
    context = LoadContext(hook=HookSite.at("blocks.1.hook_resid_post"), hook_named=True, d_in=lambda _: 6)
    sae = load_sae(ref, context)
    assert (sae.name, sae.d_in, sae.d_sae, str(sae.hook)) == (ref, 6, 6, "blocks.1.hook_resid_post")
    with pytest.raises(SAELoadError, match="names no hook point"):
        load_sae(ref, LoadContext())
    (tmp_path / "plain.py").write_text(PLAIN.replace("min=0", "min=0.001"))
    assert load_sae(ref, context).fingerprint() != sae.fingerprint()
