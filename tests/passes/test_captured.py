"""What is shared through the cache: found or computed, whole or in shards, the numbers are the same bits."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from saebench.cache.tensors import TensorCache
from saebench.errors import HookMismatchError
from saebench.lm.model import LanguageModel
from saebench.passes import captured as module
from saebench.passes.captured import LOSSES, CapturedText
from saebench.passes.clean import CleanPass
from saebench.passes.context import TaskContext
from saebench.progress import NullProgress
from tests.tasks.conftest import CORE, KINDS, topk_sae

SITE, OTHER = "blocks.1.hook_resid_post", "blocks.2.hook_mlp_out"
ROWS = 2  # sequences in a shard, where a test wants several shards

Make = Callable[..., TaskContext]


def cache(folder: Path | None = None, memory: int = 10**8) -> TensorCache:
    return TensorCache(folder, memory=memory, disk=10**9 if folder else 0, log=pytest.fail)


def capture(tiny: TaskContext, shared: TensorCache, batch_size: int = 3) -> CapturedText:
    return CapturedText(tiny.lm, tiny.batch("memory:tiny", 24, 7), shared, batch_size, NullProgress())


def numbers(tiny: TaskContext, shared: TensorCache, site: str = SITE, batch_size: int = 3) -> dict[str, Tensor]:
    clean = CleanPass(capture(tiny, shared, batch_size), site, NullProgress())
    spliced = clean.spliced(lambda batch: 0.5 * batch.positions.at_evaluated(batch.activations), "half")
    parts = {"clean": clean.ce, "centre": clean.centre.mean, "variance": clean.centre.variance}
    for name, losses in (("zero", clean.zero), ("mean", clean.mean), ("half", spliced)):
        parts |= {f"{name}.ce": losses.ce, f"{name}.kl": losses.kl}
    return parts


def same_bits(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(module._SHARD_TOKENS, "cpu", ROWS * 24)


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which passes of the model were run, in order."""
    seen: list[str] = []
    for name in ("capture", "prefix", "suffix"):
        real = getattr(LanguageModel, name)

        def spy(self: Any, *arguments: Any, name: str = name, real: Any = real) -> Any:
            seen.append(name)
            return real(self, *arguments)

        monkeypatch.setattr(LanguageModel, name, spy)
    return seen


@pytest.mark.parametrize("family", ["gemma3", "gemma2"])
@pytest.mark.parametrize("site", [SITE, OTHER])
@pytest.mark.usefixtures("small_shards")
def test_what_is_found_on_disk_is_what_was_computed(
    context: Make, tmp_path: Path, passes: list[str], family: str, site: str
):
    tiny = context(family)
    first = numbers(tiny, cache(tmp_path), site)
    passes.clear()
    found = numbers(tiny, cache(tmp_path, memory=0), site)
    assert same_bits(first, found)
    assert passes == ["suffix"] * 4  # the splice alone: four shards, of two sequences at most


@pytest.mark.usefixtures("small_shards")
def test_without_any_cache_everything_is_computed_again_and_equal(context: Make):
    tiny = context("gemma3")
    assert same_bits(numbers(tiny, cache()), numbers(tiny, cache(memory=0)))


@pytest.mark.usefixtures("small_shards")
def test_a_damaged_shard_is_computed_again(context: Make, tmp_path: Path, passes: list[str]):
    tiny = context("gemma3")
    first = numbers(tiny, cache(tmp_path))
    files = sorted(tmp_path.rglob("*.safetensors"))
    assert len(files) == 4 * 4  # activations, losses, two ablations
    for file in files[::3]:
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    said: list[str] = []
    passes.clear()
    again = numbers(tiny, TensorCache(tmp_path, memory=0, disk=10**9, log=said.append))
    assert same_bits(first, again)
    assert len(said) == len(files[::3])
    assert len(passes) > 4


@pytest.mark.usefixtures("small_shards")
def test_several_sites_and_the_losses_come_from_one_pass(context: Make, tmp_path: Path, passes: list[str]):
    tiny = context("gemma3")
    apart = {site: numbers(tiny, cache(), site) for site in (SITE, OTHER)}
    shared, text = cache(tmp_path), capture(tiny, cache(tmp_path))
    text.want(SITE, OTHER, tiny.lm.restart_site(OTHER), LOSSES)
    passes.clear()
    text.complete("all", lambda shard: None)
    assert passes == ["capture"] * 4
    together = {site: numbers(tiny, shared, site) for site in (SITE, OTHER)}
    assert "capture" not in passes[4:]
    assert "prefix" not in passes[4:]
    assert all(same_bits(apart[site], together[site]) for site in apart)


def test_a_site_that_comes_later_costs_a_prefix_pass_only(context: Make, passes: list[str]):
    tiny, shared = context("gemma3"), cache()
    numbers(tiny, shared, SITE)
    text = capture(tiny, shared)
    text.want(LOSSES, "blocks.0.hook_resid_post")
    passes.clear()
    text.complete("later", lambda shard: None)
    assert passes == ["prefix"] * 3


@pytest.mark.parametrize("kind", KINDS)
def test_capturing_reads_what_a_prefix_pass_reads(context: Make, kind: str):
    lm = context("gemma3").lm
    tokens = torch.randint(5, 60, (2, 9), generator=torch.Generator().manual_seed(0))
    sites = [f"blocks.{layer}.{kind}" for layer in range(lm.n_layers)]
    hidden, found = lm.capture(tokens, sites)
    assert torch.equal(hidden, lm.full(tokens))
    for site in sites:
        assert torch.equal(found[site], lm.prefix(tokens, [site])[site])


def test_keys_tell_models_texts_seeds_and_sites_apart(context: Make, tmp_path: Path):
    shared = cache(tmp_path)
    folders: list[set[str]] = []
    for tiny, site in (
        (context("gemma3"), SITE),
        (context("gemma3"), OTHER),
        (context("gemma3", seed=1), SITE),
        (context("llama"), SITE),
    ):
        numbers(tiny, shared, site)
        folders.append({file.parent.name for file in tmp_path.rglob("*.safetensors")})
    assert len(folders[0]) == 4
    assert [len(after - before) for before, after in pairwise(folders)] == [4, 4, 4]


def test_an_unknown_site_is_refused_before_any_pass(context: Make):
    text = capture(context("gemma3"), cache())
    with pytest.raises(HookMismatchError, match="hook_resid_post"):
        text.want("blocks.99.hook_resid_post")


@pytest.mark.usefixtures("small_shards")
def test_many_saes_give_what_each_gives_alone(context: Make, tmp_path: Path):
    from saebench.tasks.core.task import CoreTask

    saes = [topk_sae(SITE, seed) for seed in range(3)] + [topk_sae(OTHER, 3)]
    together = context("gemma3", cache=cache(tmp_path), sites=(SITE, OTHER))
    many = [CoreTask().run(sae, together, CORE) for sae in saes]
    for sae, output in zip(saes, many, strict=True):
        alone = CoreTask().run(sae, context("gemma3"), CORE)
        assert alone.measurements == output.measurements
        assert alone.arrays.keys() == output.arrays.keys()
        assert all((alone.arrays[name] == output.arrays[name]).all() for name in alone.arrays)
