"""Schemes of other packages: what they can do, and that a broken one disturbs nobody."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from typing import Any

import pytest

from saebench.errors import HookMismatchError, SAELoadError, UsageError
from saebench.sae import registry as registry_module
from saebench.sae.base import LoadContext
from saebench.sae.baselines import NeuronBaseline
from saebench.sae.folder_schemes import folder_schemes
from saebench.sae.hook import HookSite
from saebench.sae.map_scheme import map_schemes
from saebench.sae.options import POSITIVE_INT, read_options
from saebench.sae.protocol import SAE
from saebench.sae.reference import SAERef, load_sae, parse_sae_ref
from saebench.sae.registry import BUILT_IN, GROUP, scheme_registry
from saebench.sae.scheme import Form, Scheme

SITE = "blocks.1.hook_resid_post"


class MineScheme(Scheme):
    """``mine:NAME`` and ``mine:half(REF)``."""

    name = "mine"
    forms = (Form("NAME", "an SAE of mine", {"width": POSITIVE_INT}), Form("half(REF)", "half of another SAE"))
    wrappers = frozenset({"half"})

    def validate(self, ref: SAERef) -> None:
        if ref.body == "wrong":
            raise UsageError("mine:wrong does not exist.")
        read_options(ref, self.forms[0].options)

    def load(self, ref: SAERef, context: LoadContext) -> SAE:
        if ref.inner:
            return ref.inner.load(context)
        width = read_options(ref, self.forms[0].options).get("width", 6)
        sae = NeuronBaseline(width, name=str(ref), hook=HookSite.at(SITE))
        sae.control = ref.body == "nothing"
        return sae

    def site(self, ref: SAERef, default: str | None) -> HookSite | None:
        return ref.inner.site(default) if ref.inner else HookSite.at(SITE)

    def control(self, ref: SAERef) -> str | None:
        return "nothing" if ref.body == "nothing" else None


class Awkward(Scheme):
    """Raises, or returns what it must not."""

    name = "awkward"

    def validate(self, ref: SAERef) -> None:
        if ref.body == "raise":
            raise KeyError("surprise")
        if ref.body == "exit":
            raise SystemExit(3)

    def load(self, ref: SAERef, context: LoadContext) -> SAE:
        if ref.body == "object":
            return object()  # type: ignore[return-value]
        raise ValueError("no\n weights")

    def site(self, ref: SAERef, default: str | None) -> Any:
        return SITE

    def control(self, ref: SAERef) -> Any:
        return True


MINE, AWKWARD, NO_SCHEME = MineScheme(), Awkward(), object()

Register = Callable[..., None]


@pytest.fixture
def register(monkeypatch: pytest.MonkeyPatch) -> Iterator[Register]:
    """``register(mine="MINE")``: as if a package had this entry point; the value is a name in this module."""

    def call(**points: str) -> None:
        made = [
            EntryPoint(name, value if ":" in value else f"{__name__}:{value}", GROUP) for name, value in points.items()
        ]
        monkeypatch.setattr(registry_module, "entry_points", lambda group: made if group == GROUP else [])
        scheme_registry.cache_clear()

    yield call
    monkeypatch.undo()
    scheme_registry.cache_clear()


def test_a_third_party_scheme(register: Register) -> None:
    register(mine="MINE")
    ref = parse_sae_ref("mine:first?width=7")
    assert (ref.site(None), ref.control, ref.derived, ref.fitted) == (HookSite.at(SITE), None, False, False)
    assert ref.hook_for_controls is None
    assert parse_sae_ref("mine:nothing").control == "nothing"
    sae = load_sae(ref, LoadContext())
    assert (sae.d_in, sae.name, sae.control) == (7, "mine:first?width=7", False)
    assert load_sae("mine:nothing", LoadContext()).control is True
    with pytest.raises(HookMismatchError, match="expects 6 dimensions"):
        load_sae("mine:first", LoadContext(d_in=lambda site: 5))
    with pytest.raises(UsageError, match="mine:wrong does not exist"):
        parse_sae_ref("mine:wrong")
    with pytest.raises(UsageError, match=r"no option 'widht'. Did you mean 'width'\? It takes width"):
        parse_sae_ref("mine:first?widht=7")


def test_wrappers_hold_references_of_any_scheme(register: Register) -> None:
    register(mine="MINE")
    ref = parse_sae_ref("mine:half(mine:first?width=7)?width=2")
    assert str(ref.inner) == "mine:first?width=7"
    assert ref.options == (("width", "2"),)
    assert parse_sae_ref(str(ref)) == ref
    assert load_sae(ref, LoadContext()).d_in == 7
    outer = parse_sae_ref("baseline:permuted-decoder(mine:first)")
    assert (outer.control, outer.derived, outer.site(None)) == ("permuted-decoder", False, HookSite.at(SITE))
    assert load_sae(outer, LoadContext()).d_in == 6
    assert parse_sae_ref("mine:half(baseline:random?d_sae=3&l0=1)").inner == parse_sae_ref(
        "baseline:random?l0=1&d_sae=3"
    )


def test_error_messages_list_it(register: Register) -> None:
    register(mine="MINE")
    with pytest.raises(UsageError, match=r"zoo:, sae_lens:, .*, mine:\. Did you mean 'mine'"):
        parse_sae_ref("mini:first")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("no_such_package.saes:SCHEME", "ModuleNotFoundError: No module named 'no_such_package'"),
        ("ABSENT", "AttributeError: .* 'ABSENT'"),
        ("NO_SCHEME", "must be an instance of saebench.sae.scheme.Scheme, not <object"),
        ("MineScheme", "must be an instance of saebench.sae.scheme.Scheme, not <class"),
        ("MINE", "is called 'mine', not 'theirs'"),
    ],
)
def test_a_broken_scheme_says_why_when_it_is_used(register: Register, value: str, message: str) -> None:
    register(theirs=value, mine="MINE")
    assert parse_sae_ref("baseline:pca").control == "pca"
    assert load_sae("mine:first", LoadContext()).d_in == 6
    with pytest.raises(
        UsageError, match=f"The SAE scheme 'theirs' of an unknown package is broken: .*{message}"
    ) as error:
        parse_sae_ref("theirs:x")
    assert "\n" not in str(error.value)
    entries = {entry.name: entry for entry in scheme_registry().entries()}
    assert entries["theirs"].scheme is None
    assert entries["mine"].scheme is not None


def test_a_scheme_is_imported_when_it_is_first_used(register: Register, monkeypatch: pytest.MonkeyPatch) -> None:
    register(mine="MINE")

    def never(*_: Any) -> Any:
        raise AssertionError("the package was imported")

    monkeypatch.setattr(EntryPoint, "load", never)
    assert parse_sae_ref("baseline:pca").fitted


@pytest.mark.parametrize("taken", ["zoo", "baseline", "python", "sae_lens"])
def test_a_name_of_saebench_is_refused(register: Register, taken: str) -> None:
    register(**{taken: "MINE", "mine": "MINE"})
    built_in = [scheme.name for scheme in (*BUILT_IN, *map_schemes(), *folder_schemes())]
    assert scheme_registry().names() == [*built_in, "mine"]
    assert parse_sae_ref("zoo:topk-k32-s0").site(None) == HookSite.at("blocks.9.hook_resid_post")
    [refused] = [entry for entry in scheme_registry().entries() if entry.error]
    assert (refused.name, refused.error) == (taken, f"the name {taken!r} is taken by saebench")


def test_of_two_packages_the_first_keeps_the_name(register: Register, monkeypatch: pytest.MonkeyPatch) -> None:
    two = [EntryPoint("mine", f"{__name__}:{value}", GROUP) for value in ("NO_SCHEME", "MINE")]
    register()
    monkeypatch.setattr(registry_module, "entry_points", lambda group: two)
    assert parse_sae_ref("mine:first").site(None) == HookSite.at(SITE)
    [refused] = [entry for entry in scheme_registry().entries() if entry.error]
    assert refused.error == "the name 'mine' is taken by an unknown package"


def test_errors_of_a_scheme_name_it(register: Register) -> None:
    register(awkward="AWKWARD")
    for body, what in (("raise", "KeyError: 'surprise'"), ("exit", "SystemExit: 3")):
        with pytest.raises(UsageError, match=rf"^awkward:{body}: validate\(\) of the SAE scheme .* failed with {what}"):
            parse_sae_ref(f"awkward:{body}")
    ref = parse_sae_ref("awkward:x")
    with pytest.raises(UsageError, match=rf"site\(\) .* returned '{SITE}', which is not of type .*HookSite \| None"):
        ref.site(None)
    with pytest.raises(UsageError, match=r"control\(\) .* returned True, which is not of type str \| None"):
        _ = ref.control
    with pytest.raises(SAELoadError, match=r"awkward:x failed with ValueError: no weights \(SAE scheme of"):
        load_sae(ref, LoadContext())
    with pytest.raises(SAELoadError, match="awkward:object gave an object of type object, which lacks name"):
        load_sae("awkward:object", LoadContext())
