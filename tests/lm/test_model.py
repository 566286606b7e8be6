"""Prefix and suffix passes against the full pass, and against plain torch hooks on an unwrapped copy of the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from saebench.errors import HookMismatchError, ModelError
from saebench.lm.load import load_lm
from saebench.lm.model import LanguageModel
from tests.conftest import VOCABULARY, WIDTH, build_config, build_tokenizer
from tests.lm.conftest import CPU, Pair

RESIDUAL = ["hook_resid_pre", "hook_resid_mid", "hook_resid_post"]
KINDS = [*RESIDUAL, "hook_mlp_out", "hook_attn_out", "attn.hook_z"]


def relative(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).double().norm() / theirs.double().norm())


def everywhere(pair: Pair) -> list[str]:
    return [f"blocks.{layer}.{kind}" for layer in range(pair.lm.n_layers) for kind in KINDS]


def inside(pair: Pair) -> list[str]:
    """The sites of one block, for what no layer decides alone."""
    return [f"blocks.1.{kind}" for kind in KINDS]


def random_at(pair: Pair, site: str, seed: int = 0) -> Tensor:
    """An activation unlike the model's own, of the same size."""
    own = pair.lm.prefix(pair.tokens, [site])[site]
    return own.std() * torch.randn(own.shape, generator=torch.Generator().manual_seed(seed))


def spliced(pair: Pair, site: str, activation: Tensor) -> Tensor:
    restart = pair.lm.restart_site(site)
    return pair.lm.suffix(pair.tokens, site, activation, pair.lm.prefix(pair.tokens, [restart])[restart])


# ---------------------------------------------------------------- the independent implementation


def _submodules(pair: Pair, layer: int) -> dict[str, Any]:
    """The Hugging Face modules whose output is added to the residual stream, and the projection after z."""
    block = pair.plain_blocks[layer]
    if pair.family == "gpt2":
        return {"attn": block.attn, "mlp": block.mlp, "out": block.attn.c_proj}
    if pair.family == "llama":
        return {"attn": block.self_attn, "mlp": block.mlp, "out": block.self_attn.o_proj}
    return {
        "attn": block.post_attention_layernorm,
        "mlp": block.post_feedforward_layernorm,
        "out": block.self_attn.o_proj,
    }


def _like(out: Any, value: Tensor) -> Any:
    return (value, *out[1:]) if isinstance(out, tuple) else value


@contextmanager
def plain_hooks(pair: Pair, site: str, edit: Callable[[Tensor], Tensor | None]) -> Iterator[None]:
    """Read (``edit`` returns None) or replace what flows at ``site`` of the unwrapped model."""
    layer, kind = int(site.split(".")[1]), site.split(".", 2)[2]
    block, part = pair.plain_blocks[layer], _submodules(pair, layer)
    entering: list[Tensor] = []

    def on_input(_module: Any, args: Any) -> Any:
        value = edit(args[0])
        return None if value is None else (value, *args[1:])

    def on_output(_module: Any, _args: Any, out: Any) -> Any:
        value = edit(out[0] if isinstance(out, tuple) else out)
        return None if value is None else _like(out, value)

    def on_attention(_module: Any, _args: Any, out: Any) -> Any:
        # resid_mid is what entered the block plus what attention adds: change the summand to change the sum.
        value = edit(entering[-1] + (out[0] if isinstance(out, tuple) else out))
        return None if value is None else _like(out, value - entering[-1])

    handles = {
        "hook_resid_pre": lambda: [block.register_forward_pre_hook(on_input)],
        "hook_resid_post": lambda: [block.register_forward_hook(on_output)],
        "hook_attn_out": lambda: [part["attn"].register_forward_hook(on_output)],
        "hook_mlp_out": lambda: [part["mlp"].register_forward_hook(on_output)],
        "attn.hook_z": lambda: [part["out"].register_forward_pre_hook(on_input)],
        "hook_resid_mid": lambda: [
            block.register_forward_pre_hook(lambda _module, args: entering.append(args[0])),
            part["attn"].register_forward_hook(on_attention),
        ],
    }[kind]()
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


# ---------------------------------------------------------------- the numbers


@torch.no_grad()
def test_wrapping_leaves_the_forward_pass_as_it_was(pair: Pair):
    for _ in range(2):  # the second time after passes that skip and splice
        assert relative(pair.lm.model(pair.tokens).logits, pair.plain(pair.tokens).logits) <= 1e-6
        assert relative(pair.lm.full(pair.tokens), pair.plain.base_model(pair.tokens).last_hidden_state) <= 1e-6
        site = f"blocks.{pair.lm.n_layers - 1}.hook_mlp_out"
        spliced(pair, site, random_at(pair, site))


@torch.no_grad()
def test_prefix_reads_what_flows_in_the_unwrapped_model(pair: Pair):
    for site in everywhere(pair):
        seen: list[Tensor] = []
        with plain_hooks(pair, site, seen.append):
            pair.plain.base_model(pair.tokens)
        assert relative(pair.lm.prefix(pair.tokens, [site])[site], seen[0]) <= 1e-6, site


def test_suffix_of_prefix_is_the_full_pass(pair: Pair):
    assert pair.lm.suffix_supported
    full = pair.lm.full(pair.tokens)
    for site in everywhere(pair):
        own = pair.lm.prefix(pair.tokens, [site])[site]
        assert relative(spliced(pair, site, own), full) <= 1e-6, site


@torch.no_grad()
def test_splicing_is_replacing_the_activation_in_the_unwrapped_model(pair: Pair):
    full = pair.lm.full(pair.tokens)
    for site in everywhere(pair):
        activation = random_at(pair, site)
        with plain_hooks(pair, site, lambda _, value=activation: value):
            theirs = pair.plain.base_model(pair.tokens).last_hidden_state
        assert relative(theirs, full) > 1e-2, site  # the replacement matters
        ours = spliced(pair, site, activation)
        # resid_mid: the reference adds x + (r - x), which rounds.
        assert relative(ours, theirs) <= (1e-5 if "resid_mid" in site else 1e-6), site


def test_full_pass_fallback_gives_the_same_numbers(pair: Pair, monkeypatch: pytest.MonkeyPatch):
    activations = {site: random_at(pair, site) for site in inside(pair)}
    quick = {site: spliced(pair, site, value) for site, value in activations.items()}
    monkeypatch.setattr(pair.lm, "suffix_supported", False)
    for site, value in activations.items():
        assert relative(spliced(pair, site, value), quick[site]) <= 1e-6, site
    for site, value in activations.items():  # and without the residual stream to restart from
        assert relative(pair.lm.suffix(pair.tokens, site, value), quick[site]) <= 1e-6, site


def test_positions_before_a_change_are_untouched(pair: Pair):
    """A causal model: a splice at position 20 cannot reach positions 0 to 19, and reaches those after."""
    full = pair.lm.full(pair.tokens)
    for site in inside(pair):
        own = pair.lm.prefix(pair.tokens, [site])[site]
        changed = own.clone()
        changed[:, 20] = random_at(pair, site)[:, 20]
        out = spliced(pair, site, changed)
        assert relative(out[:, :20], full[:, :20]) <= 1e-6, site
        assert relative(out[:, 20], full[:, 20]) > 1e-3, site


def test_inputs_are_not_written_to(pair: Pair):
    for site in inside(pair):
        restart = pair.lm.restart_site(site)
        found = pair.lm.prefix(pair.tokens, [site, restart])
        kept = {name: value.clone() for name, value in found.items()}
        activation = random_at(pair, site)
        before = activation.clone()
        pair.lm.suffix(pair.tokens, site, activation, found[restart])
        assert torch.equal(activation, before)
        assert all(torch.equal(found[name], kept[name]) for name in kept), site


def test_several_sites_in_one_prefix_pass(pair: Pair):
    sites = everywhere(pair)
    together = pair.lm.prefix(pair.tokens, sites)
    assert set(together) == set(sites)
    for site in sites:
        assert torch.equal(together[site], pair.lm.prefix(pair.tokens, [site])[site])


def test_residual_stream_adds_up(pair: Pair):
    for layer in range(pair.lm.n_layers):
        names = [f"blocks.{layer}.{kind}" for kind in KINDS[:5]]
        found = pair.lm.prefix(pair.tokens, names)
        pre, mid, post, mlp, attention = (found[name] for name in names)
        assert relative(pre + attention, mid) <= 1e-6
        assert relative(mid + mlp, post) <= 1e-6


def test_bfloat16_suffix_of_prefix(tiny_lm_dir: Path):
    lm = load_lm(str(tiny_lm_dir), device=CPU, dtype=torch.bfloat16)
    tokens = torch.randint(4, VOCABULARY, (2, 30), generator=torch.Generator().manual_seed(3))
    assert lm.suffix_supported
    for kind in KINDS:
        site = f"blocks.1.{kind}"
        restart = lm.restart_site(site)
        found = lm.prefix(tokens, [site, restart])
        assert found[site].dtype == torch.bfloat16
        # A float32 activation (an SAE's output) is cast to the model's dtype.
        assert relative(lm.suffix(tokens, site, found[site].float(), found[restart]), lm.full(tokens)) <= 1e-6


# ---------------------------------------------------------------- how it is done


def calls_of_blocks(pair: Pair, work: Callable[[], object]) -> list[int]:
    calls = [0] * pair.lm.n_layers

    def count(index: int) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            calls[index] += 1

        return hook

    base = pair.lm.model.base_model
    blocks = base.h if pair.family == "gpt2" else base.layers
    handles = [block.register_forward_pre_hook(count(index)) for index, block in enumerate(blocks)]
    try:
        work()
    finally:
        for handle in handles:
            handle.remove()
    return calls


def test_prefix_stops_and_suffix_skips(pair: Pair):
    n = pair.lm.n_layers
    assert calls_of_blocks(pair, lambda: pair.lm.full(pair.tokens)) == [1] * n
    for layer in range(n):
        for kind in KINDS:
            site = f"blocks.{layer}.{kind}"
            reached = [1] * (layer + 1) + [0] * (n - layer - 1)
            calls = calls_of_blocks(pair, lambda site=site: pair.lm.prefix(pair.tokens, [site]))
            assert calls[:layer] == reached[:layer], site
            assert calls[layer + 1 :] == reached[layer + 1 :], site
            restart = pair.lm.restart_site(site)
            resid = pair.lm.prefix(pair.tokens, [site, restart])
            first = layer + 1 if kind == "hook_resid_post" else layer
            calls = calls_of_blocks(pair, lambda s=site, a=resid, r=restart: pair.lm.suffix(pair.tokens, s, a[s], a[r]))
            assert calls == [1 if first == 0 else 0] * first + [1] * (n - first), site


def hooks_left(lm: LanguageModel) -> int:
    return sum(len(point._forward_hooks) for point in lm.bridge.hook_dict.values())


def test_everything_is_put_back_after_a_pass_and_after_an_error_in_it(pair: Pair):
    lm = pair.lm
    blocks, hooks = list(lm._blocks), hooks_left(lm)
    expected = lm.full(pair.tokens)

    def fail(*_: Any) -> None:
        raise ZeroDivisionError

    for site in everywhere(pair):
        restart = lm.restart_site(site)
        found = lm.prefix(pair.tokens, [site, restart])
        lm.suffix(pair.tokens, site, found[site], found[restart])
        handle = lm.model.base_model.norm if pair.family != "gpt2" else lm.model.base_model.ln_f
        hook = handle.register_forward_pre_hook(fail)
        with pytest.raises(ZeroDivisionError):
            lm.suffix(pair.tokens, site, found[site], found[restart])
        hook.remove()
        assert all(a is b for a, b in zip(lm._blocks, blocks, strict=True))
        assert len(lm._blocks) == len(blocks)
        assert hooks_left(lm) == hooks
    assert torch.equal(lm.full(pair.tokens), expected)


def test_wrong_width_is_an_error_and_leaves_the_model_whole(llama: Pair):
    expected = llama.lm.full(llama.tokens)
    for kind in KINDS:
        site = f"blocks.1.{kind}"
        restart = llama.lm.restart_site(site)
        resid = llama.lm.prefix(llama.tokens, [restart])[restart]
        with pytest.raises(RuntimeError):
            llama.lm.suffix(llama.tokens, site, torch.zeros(3, 40, WIDTH + 1), resid)
    assert torch.equal(llama.lm.full(llama.tokens), expected)


# ---------------------------------------------------------------- sites


def test_width_at_every_site(pair: Pair):
    for site in everywhere(pair):
        assert pair.lm.d_at(site) == pair.lm.prefix(pair.tokens, [site])[site].shape[-1] == WIDTH  # heads * head_dim
    assert pair.lm.d_model == WIDTH


def test_width_of_z_is_that_of_all_heads(tmp_path: Path):
    config = transformers.Qwen3Config(**{**_decoder(), "num_key_value_heads": 2, "head_dim": 6})
    lm = _saved_lm(config, tmp_path)
    assert lm.d_at("blocks.0.attn.hook_z") == 24
    assert lm.d_at("blocks.0.hook_attn_out") == WIDTH


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("blocks.3.hook_resid_post", "has 3 blocks, 0 to 2"),
        ("blocks.99.attn.hook_z", "has 3 blocks, 0 to 2"),
        ("blocks.1.hook_resid_pots", "Did you mean 'blocks.1.hook_resid_post'"),
        ("blocks.1.attn.hook_q", "not a hook that saebench can splice"),
        ("blocks.01.hook_resid_post", "has no hook 'blocks.01.hook_resid_post'. Did you mean"),
    ],
)
def test_unknown_sites(llama: Pair, name: str, message: str):
    for ask in (llama.lm.d_at, llama.lm.site, llama.lm.restart_site, lambda n: llama.lm.prefix(llama.tokens, [n])):
        with pytest.raises(HookMismatchError, match=message):
            ask(name)
    with pytest.raises(HookMismatchError, match=message):
        llama.lm.suffix(llama.tokens, name, torch.zeros(3, 40, WIDTH))


# ---------------------------------------------------------------- other architectures


def _decoder() -> dict[str, Any]:
    config = build_config("llama").to_dict()
    wanted = ("vocab_size", "hidden_size", "intermediate_size", "num_attention_heads", "max_position_embeddings")
    special = ("initializer_range", "pad_token_id", "eos_token_id", "bos_token_id", "num_hidden_layers")
    return {key: config[key] for key in wanted + special}


def _saved_lm(config: Any, folder: Path) -> LanguageModel:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = transformers.AutoModelForCausalLM.from_config(config)
    model.save_pretrained(folder)
    build_tokenizer().save_pretrained(folder)
    return load_lm(str(folder), device=CPU, dtype=torch.float32)


def test_parallel_blocks_have_no_resid_mid(tmp_path: Path):
    """GPT-NeoX (Pythia): attention and MLP read the same input."""
    lm = _saved_lm(transformers.GPTNeoXConfig(**_decoder()), tmp_path)
    with pytest.raises(HookMismatchError, match="hook_resid_mid"):
        lm.d_at("blocks.1.hook_resid_mid")
    tokens = torch.randint(4, VOCABULARY, (2, 20), generator=torch.Generator().manual_seed(1))
    for kind in [kind for kind in KINDS if kind != "hook_resid_mid"]:
        site = f"blocks.1.{kind}"
        found = lm.prefix(tokens, [site, lm.restart_site(site)])
        out = lm.suffix(tokens, site, found[site], found[lm.restart_site(site)])
        assert relative(out, lm.full(tokens)) <= 1e-6


def test_hooks_that_the_pass_never_reaches_are_refused(tmp_path: Path):
    """TransformerLens 3.9 names Granite's mlp_out but never calls it."""
    lm = _saved_lm(transformers.GraniteConfig(**_decoder(), num_key_value_heads=2, residual_multiplier=0.3), tmp_path)
    with pytest.raises(HookMismatchError, match="never reaches it"):
        lm.d_at("blocks.1.hook_mlp_out")
    with pytest.raises(HookMismatchError, match="cannot be replaced"):
        lm.d_at("blocks.1.hook_resid_mid")
    assert lm.d_at("blocks.1.hook_resid_post") == WIDTH


def test_an_activation_that_is_not_per_position_is_refused(tmp_path: Path):
    """OPT flattens batch and position before its MLP."""
    config = transformers.OPTConfig(
        vocab_size=VOCABULARY, hidden_size=WIDTH, ffn_dim=64, num_hidden_layers=3, num_attention_heads=4,
        word_embed_proj_dim=WIDTH, max_position_embeddings=64,
    )  # fmt: skip
    lm = _saved_lm(config, tmp_path)
    with pytest.raises(HookMismatchError, match=r"shape \(24, 32\)"):
        lm.d_at("blocks.1.hook_mlp_out")


def test_a_model_whose_numbers_change_under_the_hooks_is_refused(tmp_path: Path):
    """TransformerLens 3.9 runs Cohere with other numbers than transformers does."""
    with pytest.raises(ModelError, match="gives other numbers"):
        _saved_lm(transformers.CohereConfig(**_decoder(), num_key_value_heads=2), tmp_path)


def test_a_model_with_nan_weights_is_refused(tmp_path: Path):
    config = build_config("llama")
    model = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[0, 0] = torch.nan
    model.save_pretrained(tmp_path)
    build_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="NaN or infinite"):
        load_lm(str(tmp_path), device=CPU, dtype=torch.float32)
