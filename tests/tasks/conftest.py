"""Tiny language models as saebench loads them, texts, SAEs, and a plain Hugging Face copy to check numbers against."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sae_lens
import torch
from sae_lens.saes.sae import SAEMetadata
from sae_lens.saes.transcoder import Transcoder, TranscoderConfig

from saebench.data.text import Documents
from saebench.evaluation import TaskOutput
from saebench.lm.load import load_lm
from saebench.lm.model import LanguageModel
from saebench.passes.clean import CleanPass
from saebench.passes.context import TaskContext
from saebench.results.units import OWN_UNITS
from saebench.sae.sae_lens_adapter import SAELensAdapter
from saebench.tasks.core.settings import CoreSettings
from tests.conftest import WIDTH

PARAMETERS = {"text": "memory:tiny", "context_length": 24, "sequences": 7, "bootstrap_replicates": 100}
CORE = CoreSettings.parse(PARAMETERS, task="core")
KINDS = ("hook_resid_pre", "hook_resid_mid", "hook_resid_post", "hook_mlp_out", "hook_attn_out", "attn.hook_z")
LETTERS = [*"abcdefghijklmnop ,.", "é"]  # é is unknown to the tokenizer: a special token in the middle of a text


def documents(seed: int = 0, n: int = 40, length: int = 30) -> Documents:
    rng = np.random.default_rng(seed)
    texts = ["".join(rng.choice(LETTERS, size=rng.integers(5, length))) + f" {i}" for i in range(n)]
    return Documents(PARAMETERS["text"], texts)


@pytest.fixture(scope="session")
def loaded(request: pytest.FixtureRequest) -> Callable[[str], LanguageModel]:
    """``loaded("gpt2")``: the tiny language model, loaded once."""
    found: dict[str, LanguageModel] = {}

    def load(family: str) -> LanguageModel:
        if family not in found:
            folder: Path = request.getfixturevalue(f"tiny_{family}_dir")
            found[family] = load_lm(str(folder), device=torch.device("cpu"), dtype=torch.float32)
        return found[family]

    return load


@pytest.fixture
def context(loaded: Callable[[str], LanguageModel]) -> Callable[..., TaskContext]:
    """``context("gpt2", seed=..., batch_size=...)``: on a text in memory."""

    def build(family: str = "gpt2", **options: Any) -> TaskContext:
        return TaskContext(loaded(family), **{"read": lambda ref: documents(), "batch_size": 3, **options})

    return build


@pytest.fixture(scope="session")
def plain(request: pytest.FixtureRequest) -> Callable[[str], Plain]:
    """``plain("gpt2")``: an unwrapped copy of the same model."""
    return lambda family: Plain(request.getfixturevalue(f"tiny_{family}")[0], family)


def activations(clean: CleanPass) -> torch.Tensor:
    """Clean activations of all sequences, ``[sequence, position, d]``."""
    return torch.cat([clean.captured.activations(clean.site, shard) for shard in clean.captured.shards])


def topk_sae(site: str, seed: int = 0, d_sae: int = 48, k: int = 5) -> SAELensAdapter:
    config = sae_lens.TopKSAEConfig(
        d_in=WIDTH, d_sae=d_sae, k=k, apply_b_dec_to_input=True, metadata=SAEMetadata(hook_name=site)
    )
    return _randomised(sae_lens.TopKSAE(config), seed)


def transcoder(site_in: str, site_out: str) -> SAELensAdapter:
    metadata = SAEMetadata(hook_name=site_in, hook_name_out=site_out)
    config = TranscoderConfig(d_in=WIDTH, d_out=WIDTH, d_sae=40, apply_b_dec_to_input=False, metadata=metadata)
    return _randomised(Transcoder(config), 3)


def _randomised(sae: Any, seed: int) -> SAELensAdapter:
    draw = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in sae.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=draw) * 0.3)
    return SAELensAdapter(sae, f"tiny-{seed}")


class Plain:
    """A Hugging Face model with hooks of torch on its own modules; knows nothing of saebench or TransformerLens."""

    def __init__(self, model: Any, family: str) -> None:
        self.model = copy.deepcopy(model).double()
        self.blocks = self.model.transformer.h if family == "gpt2" else self.model.model.layers
        self.family = family

    def activation(self, tokens: torch.Tensor, site: str) -> np.ndarray:
        """``[sequence, position, d]`` in float64."""
        found: list[torch.Tensor] = []
        with self._at(site, lambda value: found.append(value.clone())), torch.no_grad():
            self.model(input_ids=tokens, use_cache=False)
        return found[0].double().numpy()

    def log_probabilities(
        self, tokens: torch.Tensor, site: str | None = None, where: np.ndarray | None = None, new: Any = None
    ) -> np.ndarray:
        """``[sequence, position, vocabulary]`` in float64, with ``new`` at ``where`` of the site."""

        def replace(value: torch.Tensor) -> torch.Tensor:
            chosen = torch.from_numpy(where)[..., None]
            return torch.where(chosen, torch.as_tensor(new, dtype=value.dtype), value)

        with ExitStack() as hooks, torch.no_grad():
            if site is not None:
                hooks.enter_context(self._at(site, replace))
            logits = self.model(input_ids=tokens, use_cache=False).logits.double().numpy()
        top = logits.max(-1, keepdims=True)
        return logits - top - np.log(np.exp(logits - top).sum(-1, keepdims=True))

    def written(self, tokenizer: Any, n: int = 40) -> Documents:
        """Texts sampled from the model, which it predicts well; each fills a sequence of ``context_length``."""
        characters = sorted(tokenizer.convert_tokens_to_ids(list("abcdefghijklmnopqrstuvwxyz ,.ABCDEF")))
        tokens = torch.full((n, 1), tokenizer.bos_token_id)
        rng = np.random.default_rng(0)
        for _ in range(PARAMETERS["context_length"] - 2):  # type: ignore[operator]  # BOS before, EOS after
            p = np.exp(self.log_probabilities(tokens)[:, -1, characters])
            drawn = [rng.choice(characters, p=row / row.sum()) for row in p]
            tokens = torch.cat([tokens, torch.tensor(drawn)[:, None]], 1)
        return Documents("memory:written", ["".join(tokenizer.convert_ids_to_tokens(row)) for row in tokens[:, 1:]])

    @contextmanager
    def _at(self, site: str, function: Callable[[torch.Tensor], Any]) -> Iterator[None]:
        _, layer, kind = site.split(".", 2)
        block = self.blocks[int(layer)]
        gpt2 = self.family == "gpt2"
        attention_out = block.attn if gpt2 else block.post_attention_layernorm
        entering: list[torch.Tensor] = []

        def on_input(_module: Any, args: Any, kwargs: Any) -> Any:
            value = args[0] if args else kwargs["hidden_states"]
            new = function(value)
            if new is None:
                return None
            return ((new, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": new})

        def on_output(_module: Any, _args: Any, out: Any) -> Any:
            value = out[0] if isinstance(out, tuple) else out
            new = function(value)
            if new is None:
                return None
            return (new, *out[1:]) if isinstance(out, tuple) else new

        def note_input(_module: Any, args: Any, kwargs: Any) -> None:
            entering.append(args[0] if args else kwargs["hidden_states"])

        def on_middle(_module: Any, _args: Any, out: Any) -> Any:
            """The residual stream between attention and MLP is what enters the block plus attention's output."""
            value = out[0] if isinstance(out, tuple) else out
            new = function(entering[-1] + value)
            if new is None:
                return None
            new = new - entering[-1]
            return (new, *out[1:]) if isinstance(out, tuple) else new

        if kind == "hook_resid_pre":
            handles = [block.register_forward_pre_hook(on_input, with_kwargs=True)]
        elif kind == "hook_resid_post":
            handles = [block.register_forward_hook(on_output)]
        elif kind == "hook_resid_mid":
            handles = [
                block.register_forward_pre_hook(note_input, with_kwargs=True),
                attention_out.register_forward_hook(on_middle),
            ]
        elif kind == "hook_attn_out":
            handles = [attention_out.register_forward_hook(on_output)]
        elif kind == "hook_mlp_out":
            handles = [(block.mlp if gpt2 else block.post_feedforward_layernorm).register_forward_hook(on_output)]
        else:
            projection = block.attn.c_proj if gpt2 else block.self_attn.o_proj
            handles = [projection.register_forward_pre_hook(on_input, with_kwargs=True)]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def assert_units(output: TaskOutput, *, same: TaskOutput, other: TaskOutput, differ: set[str]) -> None:
    """Every number that may be paired says on which units it was measured.

    Args:
        output: The output of an SAE.
        same: The output of another SAE on the same units.
        other: An output on other units of the kinds ``differ``, and on the same of all other kinds.
        differ: Those kinds.
    """
    kinds = {number.unit for number in output.measurements if number.contributions} - OWN_UNITS
    assert differ <= kinds <= output.units.keys()
    assert output.units == same.units
    assert {kind for kind in output.units if output.units[kind] != other.units[kind]} == differ
