"""What both sides are given is the same, and different SAEs differ."""

import json
from pathlib import Path

import pytest
import torch

from benchmarks.inputs import hub_cache, random_topk, sae_folders, write_tokens
from saebench.data import assets
from saebench.data.tokens import TokenBatch
from saebench.sae.base import LoadContext
from saebench.sae.protocol import HookSite
from saebench.sae.reference import load_sae, parse_sae_ref
from saebench.sae.zoo import zoo_names


def load(folder):
    width = json.loads((folder / "cfg.json").read_text())["d_in"]
    hook = HookSite.at("blocks.0.hook_resid_post")
    context = LoadContext(
        hook=hook, calibration=lambda _: None, d_in=lambda _: width, seed=0, device=torch.device("cpu")
    )
    return load_sae(parse_sae_ref(f"sae_lens:{folder}"), context)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return sae_folders(len(zoo_names()) + 2, tmp_path_factory.mktemp("saes"))


def test_more_saes_than_the_zoo_has_are_all_different(folders):
    assert [folder.name for folder in folders[:-2]] == zoo_names()
    assert len({load(folder).fingerprint() for folder in folders}) == len(folders)


def test_a_permuted_sae_reconstructs_as_its_source_does(folders):
    source = load(next(folder for folder in folders if folder.name == "topk-k32-s0"))
    permuted = load(folders[-1])
    x = 300 * torch.randn(8, source.d_in, generator=torch.Generator().manual_seed(0))
    ours, theirs = (sae.decode(sae.encode(x), x) for sae in (permuted, source))
    assert torch.allclose(ours, theirs, rtol=1e-3, atol=1e-2)


def test_a_random_sae_has_the_shape_and_sparsity_asked_for(tmp_path):
    folder = random_topk(tmp_path / "sae", d_in=8, d_sae=32, k=4, hook="blocks.1.hook_resid_post", model="m", seed=0)
    sae = load(folder)
    assert (sae.d_in, sae.d_sae, sae.hook.site_in) == (8, 32, "blocks.1.hook_resid_post")
    x = torch.randn(16, 8, generator=torch.Generator().manual_seed(0))
    assert ((sae.encode(x) != 0).sum(1) <= 4).all()


def test_tokens_are_written_as_they_are(tmp_path):
    tokens = torch.arange(12).reshape(3, 4)
    batch = TokenBatch(tokens, torch.ones_like(tokens, dtype=torch.bool), n_documents=1)
    lines = (write_tokens(batch, tmp_path / "set") / "tokens.jsonl").read_text().splitlines()
    assert [json.loads(line)["tokens"] for line in lines] == tokens.tolist()


def test_a_model_is_found_by_its_name_on_the_hub(tmp_path, tiny_llama_dir, monkeypatch):
    from transformers.utils import cached_file

    monkeypatch.setattr(assets, "pull", lambda _name: tiny_llama_dir)
    home = hub_cache("asset:tiny", "some/model", tmp_path / "home")
    assert hub_cache("asset:tiny", "some/model", home) == home, "a second time is fine"
    found = cached_file("some/model", "config.json", cache_dir=home / "hub", local_files_only=True)
    assert json.loads(Path(found).read_text()) == json.loads((tiny_llama_dir / "config.json").read_text())
