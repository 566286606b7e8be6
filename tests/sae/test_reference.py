from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from saebench.errors import HookMismatchError, SAELoadError, UsageError
from saebench.sae import zoo
from saebench.sae.base import LoadContext
from saebench.sae.baseline_scheme import BaselineScheme
from saebench.sae.hook import HookSite
from saebench.sae.ref import Reference
from saebench.sae.reference import MAX_NESTED, SAERef, load_sae, parse_sae_ref
from saebench.sae.sae_lens_scheme import sae_lens_releases

SITE = "blocks.1.hook_resid_post"
TEXT = st.text(st.characters(exclude_categories=("Cs",)), min_size=1)
COUNT = st.integers(1, 10**6).map(str)
SITES = TEXT.filter(str.strip)


def options(**values: st.SearchStrategy[str]) -> st.SearchStrategy[tuple[tuple[str, str], ...]]:
    return st.fixed_dictionaries({}, optional=values).map(lambda found: tuple(sorted(found.items())))


LEAVES = st.one_of(
    st.builds(SAERef, st.just("baseline"), st.just("pca"), options(hook=SITES, k=COUNT)),
    st.builds(SAERef, st.just("baseline"), st.just("neurons"), options(hook=SITES)),
    st.builds(SAERef, st.just("baseline"), st.just("random"), options(l0=COUNT, d_sae=COUNT, seed=COUNT)),
    st.builds(
        SAERef,
        st.just("sae_lens"),
        st.just("gpt2-small-res-jb/blocks.8.hook_resid_pre"),
        options(hook=SITES, hook_out=SITES),
    ),
    st.builds(
        SAERef,
        st.just("python"),
        st.just("json:loads"),
        st.dictionaries(TEXT, TEXT | st.just(""), max_size=3).map(lambda found: tuple(sorted(found.items()))),
    ),
)


def permuted(inner: SAERef, options: tuple[tuple[str, str], ...]) -> SAERef:
    return SAERef("baseline", f"permuted-decoder({inner})", options)


REFERENCES = st.recursive(LEAVES, lambda inner: st.builds(permuted, inner, options(seed=COUNT)), max_leaves=3)


@given(REFERENCES)
def test_canonical_form_round_trips(ref: SAERef) -> None:
    assert parse_sae_ref(str(ref)) == ref
    assert str(parse_sae_ref(str(ref))) == str(ref)


@given(TEXT)
def test_any_text_parses_or_is_refused(text: str) -> None:
    bodies = ("{}", "baseline:{}", "zoo:{}", "python:{}", "python:{}.py:f", "sae_lens:{}", "baseline:pca?{}")
    for candidate in (body.format(text) for body in bodies):
        with contextlib.suppress(UsageError):
            assert isinstance(parse_sae_ref(candidate), SAERef)


@pytest.mark.parametrize("text", ["sae_lens:~nobody-here/x", f"sae_lens:{'a' * 5000}", "python:~u/x.py:f"])
def test_paths_that_cannot_be(text: str) -> None:
    with pytest.raises(UsageError):
        parse_sae_ref(text)


def test_a_missing_folder_in_a_folder_is_no_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert parse_sae_ref("sae_lens:runs/today/sae3").site(None) is None  # may be ORG/REPO/FOLDER on the hub
    (tmp_path / "runs" / "today").mkdir(parents=True)
    with pytest.raises(UsageError, match="the folder runs/today/sae3 does not exist"):
        parse_sae_ref("sae_lens:runs/today/sae3")


def test_parsing_loads_nothing_heavy() -> None:
    code = (
        "import sys; from saebench.sae.reference import parse_sae_ref as p; "
        "refs = p('baseline:permuted-decoder(baseline:pca?k=3)'), p('python:json:loads'), p('zoo:topk-k32-s0'), "
        "p('sae_lens:gpt2-small-res-jb/blocks.8.hook_resid_pre'); "
        "[(r.site('x'), r.control, r.derived, r.fitted, r.hook_for_controls) for r in refs]; "
        "assert not {'torch', 'sae_lens', 'transformers'} & set(sys.modules)"
    )
    subprocess.run(
        [sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    )


def test_each_level_of_a_nested_reference_is_parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[str] = []
    validate = BaselineScheme.validate

    def noted(self: BaselineScheme, ref: Reference) -> None:
        checked.append(str(ref))
        validate(self, ref)

    monkeypatch.setattr(BaselineScheme, "validate", noted)
    ref = parse_sae_ref("baseline:permuted-decoder(" * MAX_NESTED + "baseline:neurons" + ")" * MAX_NESTED)
    assert len(checked) == MAX_NESTED + 1
    assert (ref.control, ref.derived, ref.fitted) == ("permuted-decoder", True, False)
    assert (ref.runs_code, ref.width, ref.named_sites) == (False, None, ())
    assert ref.site("blocks.0.hook_resid_pre") == HookSite.at("blocks.0.hook_resid_pre")
    assert len(checked) == MAX_NESTED + 1


@pytest.mark.parametrize(
    ("text", "sites", "width", "runs_code"),
    [
        (f"baseline:pca?hook={SITE}&k=2", (SITE,), None, False),
        (f"sae_lens:gpt2-small-res-jb/blocks.8.hook_resid_pre?hook={SITE}&hook_out=x", (SITE, "x"), None, False),
        (f"baseline:permuted-decoder(baseline:pca?hook={SITE})?seed=1", (SITE,), None, False),
        ("zoo:topk-k32-s0", (), 640, False),
        ("baseline:permuted-decoder(zoo:topk-k32-s0)", (), 640, False),
        (f"python:json:loads?hook={SITE}", (), None, True),  # an argument of the function, not a hook point of a run
        ("baseline:permuted-decoder(python:json:loads)", (), None, True),
    ],
)
def test_what_is_compared_with_the_model_before_loading(
    text: str, sites: tuple[str, ...], width: int | None, runs_code: bool
) -> None:
    ref = parse_sae_ref(text)
    assert (ref.named_sites, ref.width, ref.runs_code) == (sites, width, runs_code)


def test_options_are_decoded_and_sorted() -> None:
    ref = parse_sae_ref("baseline:random?l0=8&hook=blocks.9%2Ehook_resid_post&d_sae=64")
    assert ref.options == (("d_sae", "64"), ("hook", "blocks.9.hook_resid_post"), ("l0", "8"))
    assert parse_sae_ref("baseline:permuted-decoder(baseline:pca?k=3)?seed=2").inner == parse_sae_ref(
        "baseline:pca?k=3"
    )


@pytest.mark.parametrize(
    ("text", "control", "derived", "fitted"),
    [
        ("baseline:pca", "pca", True, True),
        ("baseline:random?seed=3", "random", True, True),
        ("baseline:neurons", "neurons", True, False),
        ("baseline:permuted-decoder(baseline:pca)", "permuted-decoder", True, True),
        ("baseline:permuted-decoder(baseline:neurons)", "permuted-decoder", True, False),
        ("baseline:permuted-decoder(zoo:topk-k32-s0)", "permuted-decoder", False, False),
        # The identity of its records comes from its reference, not from the weights; it must stay like this.
        ("baseline:permuted-decoder(baseline:permuted-decoder(zoo:topk-k32-s0))", "permuted-decoder", True, False),
        ("zoo:topk-k32-s0", None, False, False),
        ("zoo:frozen-topk-k32-s0", "frozen-decoder", False, False),
        ("sae_lens:gpt2-small-res-jb/blocks.8.hook_resid_pre", None, False, False),
        ("python:json:loads", None, False, False),
    ],
)
def test_what_a_reference_tells_before_loading(text: str, control: str | None, derived: bool, fitted: bool) -> None:
    ref = parse_sae_ref(text)
    assert (ref.control, ref.derived, ref.fitted) == (control, derived, fitted)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pca", "must begin with one of zoo:, sae_lens:, baseline:, adversary:, python:"),
        ("zooo:x", "Did you mean 'zoo'"),
        ("baseline:", "names nothing"),
        ("baseline:pcaa", "Did you mean 'pca'"),
        ("baseline:permuted-decoder", r"permuted-decoder\(REF\)"),
        ("baseline:permuted-decoder(baseline:pac)", "Did you mean 'pca'"),
        ("baseline:pca?K=3", "no option 'K'"),
        ("baseline:random?l=3", "Did you mean 'l0'"),
        ("baseline:pca?k=three", "k must be a whole number above 0, not 'three'"),
        ("baseline:pca?k=0", "above 0"),
        ("baseline:random?l0=nan", "l0 must be a number above 0"),
        ("baseline:random?seed=-1", "0 or more"),
        ("baseline:pca?k=1_0", "k must be a whole number above 0, not '1_0'"),
        ("baseline:pca?k=\u0663", "whole number above 0"),
        ("baseline:pca?k=\uff11\uff12", "whole number above 0"),
        ("baseline:pca?k= 3", "whole number above 0"),
        (f"baseline:pca?k={'9' * 5000}", "whole number above 0"),
        (f"baseline:random?seed={'9' * 19}", "0 or more"),
        ("baseline:random?l0=1e400", "l0 must be a number above 0"),
        ("baseline:random?l0=\u0661", "l0 must be a number above 0"),
        ("zoo:\udcff", r"'zoo:\\udcff' holds a byte that is not UTF-8"),
        ("baseline:permuted-decoder(" * 9 + "zoo:topk-k32-s0" + ")" * 9, "more than 8 references inside each other"),
        ("baseline:neurons?hook=", "site such as"),
        ("baseline:pca?k=1&k=2", "'k' twice"),
        ("baseline:pca?k", "key=value"),
        ("zoo:nothing?k=1", "no SAE 'nothing'"),
        ("sae_lens:./no/such/folder", "does not exist"),
        ("sae_lens:gpt2-small-res-jbb/blocks.8.hook_resid_pre", "Did you mean 'gpt2-small-res-jb'"),
        ("sae_lens:gpt2-small-res-jb/blocks.88.hook_resid_pre", "Did you mean 'blocks.8.hook_resid_pre'"),
        ("sae_lens:gemma-scope-2b-pt-ress/layer_20/width_16k/x", "Did you mean 'gemma-scope-2b-pt-res'"),
        ("python:json", "pkg.module:factory"),
        ("python:json:not a name", "pkg.module:factory"),
        ("python:no_such_package.x:build", "there is no module 'no_such_package'"),
        ("python:missing.py:build", "does not exist"),
        ("python:a-b:build", "neither a module"),
    ],
)
def test_bad_references_are_told_at_once(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_sae_ref(text)


def test_repositories_beside_the_directory_are_allowed() -> None:
    assert parse_sae_ref("sae_lens:someone/a-repo/sub/folder").body == "someone/a-repo/sub/folder"


def test_directory_is_the_installed_one() -> None:
    from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory

    theirs = {release: frozenset(entry.saes_map) for release, entry in get_pretrained_saes_directory().items()}
    assert sae_lens_releases() == theirs


class TestLoad:
    @pytest.fixture
    def context(self) -> LoadContext:
        widths = {SITE: 16, "blocks.2.hook_resid_post": 24}

        def width(site: str) -> int:
            if site not in widths:
                raise HookMismatchError(f"no site {site}")
            return widths[site]

        def activations(site: str) -> torch.Tensor:
            return torch.randn(200, width(site), generator=torch.Generator().manual_seed(1))

        return LoadContext(hook=HookSite.at(SITE), calibration=activations, d_in=width, seed=3)

    def test_folder(self, lens_folder: Callable[..., Path], context: LoadContext) -> None:
        sae = load_sae(f"sae_lens:{lens_folder('topk')}", context)
        assert (sae.d_sae, sae.hook, sae.architecture) == (32, HookSite.at(SITE), "topk")

    def test_options_reach_the_adapter(self, lens_folder: Callable[..., Path], context: LoadContext) -> None:
        ref = f"sae_lens:{lens_folder('topk')}?hook=blocks.2.hook_resid_post"
        with pytest.raises(HookMismatchError, match=r"expects 16 dimensions.*24"):
            load_sae(ref, context)
        with pytest.raises(HookMismatchError, match="no site elsewhere"):
            load_sae(ref.replace("blocks.2.hook_resid_post", "elsewhere"), context)
        assert load_sae(ref, LoadContext()).hook.site_in == "blocks.2.hook_resid_post"

    @pytest.mark.parametrize(
        ("body", "repository", "folder"),
        [
            (
                "gpt2-small-res-jb/blocks.8.hook_resid_pre",
                "jbloom/GPT2-Small-SAEs-Reformatted",
                "blocks.8.hook_resid_pre",
            ),
            ("someone/a-repo/sub/folder", "someone/a-repo", "sub/folder"),
        ],
    )
    def test_hub(
        self,
        body: str,
        repository: str,
        folder: str,
        lens_folder: Callable[..., Path],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        files, asked = lens_folder("topk"), []

        def download(*args: str) -> str:
            asked.append(args)
            return str(files / Path(args[1]).name)

        monkeypatch.setattr("huggingface_hub.hf_hub_download", download)
        assert load_sae(f"sae_lens:{body}", LoadContext()).name == f"sae_lens:{body}"
        assert asked == [(repository, f"{folder}/{name}") for name in ("cfg.json", "sae_weights.safetensors")]

    def test_baselines(self, context: LoadContext) -> None:
        assert load_sae("baseline:pca?k=4", context).d_sae == 4
        assert load_sae("baseline:neurons", context).d_in == 16
        random = load_sae("baseline:random?d_sae=64&l0=4", context)
        assert random.fingerprint() == load_sae("baseline:random?d_sae=64&l0=4&seed=3", context).fingerprint()
        assert random.fingerprint() != load_sae("baseline:random?d_sae=64&l0=4&seed=4", context).fingerprint()
        assert load_sae("baseline:permuted-decoder(baseline:pca?k=4)", context).d_sae == 4

    def test_a_baseline_elsewhere_is_fitted_there(self, context: LoadContext) -> None:
        assert load_sae("baseline:pca?k=4&hook=blocks.2.hook_resid_post", context).d_in == 24

    @pytest.mark.parametrize(
        ("context", "message"),
        [
            (LoadContext(), "needs one site"),
            (LoadContext(hook=HookSite("a", "b")), "needs one site"),
            (LoadContext(hook=HookSite.at(SITE)), "fitted to activations"),
        ],
    )
    def test_baseline_lacks_what_it_needs(self, context: LoadContext, message: str) -> None:
        with pytest.raises(SAELoadError, match=message):
            load_sae("baseline:pca", context)

    def test_neurons_need_a_width(self) -> None:
        with pytest.raises(SAELoadError, match="--model"):
            load_sae("baseline:neurons?hook=a", LoadContext())


class TestZoo:
    @pytest.fixture(autouse=True)
    def shipped(self, tmp_path: Path, lens: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(zoo, "ZOO_DIR", tmp_path)
        lens("topk").save_model(tmp_path / "topk-k32-s0")
        index = {"topk-k32-s0": {"group": "seeds", "fvu": 0.1}, "topk-k64": {"group": "k"}}
        (tmp_path / "zoo.json").write_text(json.dumps(index))

    def test_names_and_cards(self) -> None:
        assert zoo.zoo_names() == ["topk-k32-s0", "topk-k64"]
        assert zoo.zoo_card("topk-k32-s0")["fvu"] == 0.1

    def test_load(self) -> None:
        sae = load_sae("zoo:topk-k32-s0", LoadContext())
        assert (sae.name, sae.d_sae) == ("zoo:topk-k32-s0", 32)

    def test_unknown(self) -> None:
        with pytest.raises(UsageError, match="Did you mean 'topk-k32-s0'"):
            parse_sae_ref("zoo:topk-k32-s1")
        with pytest.raises(UsageError, match="takes no options"):
            parse_sae_ref("zoo:topk-k64?hook=a")

    def test_empty_and_damaged(self, tmp_path: Path) -> None:
        (tmp_path / "zoo.json").write_text("{")
        with pytest.raises(SAELoadError, match="reinstall"):
            zoo.zoo_names()
        (tmp_path / "zoo.json").unlink()
        with pytest.raises(UsageError, match="empty in this installation"):
            parse_sae_ref("zoo:topk-k64")
