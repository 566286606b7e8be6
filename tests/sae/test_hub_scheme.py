"""SAEs on the hub: which files are fetched, which format they have, and what is said where that fails."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save

from saebench.errors import SAELoadError, UsageError
from saebench.sae.base import LoadContext
from saebench.sae.reference import load_sae, parse_sae_ref
from tests.hub.server import Repository
from tests.runner.conftest import save_topk


def files_of(folder: Path, below: str = "") -> dict[str, bytes]:
    """The files below a folder, as a repository holds them."""
    prefix = f"{below}/" if below else ""
    return {
        f"{prefix}{path.relative_to(folder).as_posix()}": path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def lens(tmp_path: Path) -> Path:
    save_topk(tmp_path / "sae", 0)
    return tmp_path / "sae"


def test_a_folder_of_sae_lens(hub, lens):
    running = hub(org__repo=Repository(files_of(lens, "layer_1/a") | {"layer_2/cfg.json": b"{}", "README.md": b""}))
    ref = parse_sae_ref("hf:org/repo/layer_1/a?format=sae_lens")
    assert ref.site(None) is None  # nothing is fetched for a plan
    sae = ref.load(LoadContext())
    here = load_sae(f"sae_lens:{lens}", LoadContext())
    assert (sae.name, sae.commit, sae.fingerprint()) == (str(ref), "a" * 40, here.fingerprint())
    assert ref.site(None) == here.hook
    assert not [path for path in running.asked if "README" in path or "layer_2" in path]


def test_the_format_is_told_by_the_files(hub, lens):
    hub(org__repo=Repository(files_of(lens)))
    assert load_sae("hf:org/repo", LoadContext()).architecture == "topk"


def test_another_revision(hub, lens):
    hub(org__repo=Repository(files_of(lens), {"main": "a" * 40, "v1": "b" * 40}))
    assert load_sae("hf:org/repo@v1?format=sae_lens", LoadContext()).commit == "b" * 40
    with pytest.raises(SAELoadError, match=r"^hf:org/repo@v2\?format=sae_lens: .* no revision 'v2'"):
        load_sae("hf:org/repo@v2?format=sae_lens", LoadContext())


def test_what_was_prefetched_is_there_offline(hub, lens, monkeypatch):
    hub(org__repo=Repository(files_of(lens, "a")))
    assert parse_sae_ref("baseline:permuted-decoder(hf:org/repo/a)").prefetch() == f"commit {'a' * 40}"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert load_sae("hf:org/repo/a", LoadContext()).commit == "a" * 40
    with pytest.raises(SAELoadError, match=r"hf:org/repo/b: org/repo has no weights in b .* `saebench prefetch`"):
        load_sae("hf:org/repo/b", LoadContext())


def test_a_folder_above_the_saes_names_those_below(hub, lens):
    hub(org__repo=Repository(files_of(lens, "x/layer_1") | files_of(lens, "x/layer_2")))
    below = r"below it: hf:org/repo@main/x/layer_1, hf:org/repo@main/x/layer_2\."
    with pytest.raises(SAELoadError, match=rf"no weights in x at commit aaaaaaaaaa.*{below}"):
        load_sae("hf:org/repo@main/x", LoadContext())


def test_files_that_tell_no_format(hub):
    hub(org__repo=Repository({"weights.safetensors": save({"what": torch.zeros(3)}), "config.json": b"{}"}))
    with pytest.raises(SAELoadError, match=r"^hf:org/repo .*; add \?format=NAME, where NAME is one of .*sparsify"):
        load_sae("hf:org/repo", LoadContext())


@pytest.mark.parametrize(
    ("ref", "message"),
    [
        ("hf:org", "names no place on the hub; write hf:ORG/REPO/PATH"),
        ("hf:org/repo/../..", "names no place on the hub"),
        ("hf:org/repo?format=gema_scope", "there is no format 'gema_scope'. Did you mean 'gemma_scope'"),
        ("hf:org/repo?format=zoo", "there is no format 'zoo'"),
    ],
)
def test_references_that_are_wrong(ref, message):
    with pytest.raises(UsageError, match=message):
        parse_sae_ref(ref)


def test_a_damaged_file_names_the_reference_and_not_the_cache(hub, lens):
    hub(org__repo=Repository(files_of(lens) | {"sae_weights.safetensors": b"damaged"}))
    with pytest.raises(SAELoadError) as caught:
        load_sae("hf:org/repo?format=sae_lens", LoadContext())
    assert str(caught.value).startswith("hf:org/repo?format=sae_lens")


def test_weights_on_the_hub_are_those_that_were_sent(hub, lens):
    hub(org__repo=Repository(files_of(lens)))
    x = torch.randn(4, 32, generator=torch.Generator().manual_seed(0))
    there, here = (load_sae(ref, LoadContext()) for ref in ("hf:org/repo?format=sae_lens", f"sae_lens:{lens}"))
    assert torch.equal(there.encode(x), here.encode(x))
