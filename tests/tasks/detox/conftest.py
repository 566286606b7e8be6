"""A language model that likes to write ``z``, labelled texts in which ``z`` is toxic, and an SAE that knows it."""

from __future__ import annotations

import copy
import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from saebench.cards.card import cards_dir, load_card
from saebench.lm.load import load_lm
from saebench.lm.model import LanguageModel
from saebench.passes.context import TaskContext
from saebench.sae.base import BaseAdapter
from saebench.sae.protocol import Capability, HookSite
from saebench.tasks.detox import data
from saebench.tasks.detox.scoring import continuations
from saebench.tasks.detox.scoring.judgement import Judgement
from saebench.tasks.detox.settings import DetoxSettings
from tests.conftest import WIDTH, TinyLM
from tests.tasks.conftest import documents

# Tokens are told apart where they come in, and written where they go out: the unembedding is the embedding.
READS, WRITES = "blocks.0.hook_resid_pre", "blocks.2.hook_resid_post"
CARD = load_card(cards_dir() / "detox.yaml")


class Stub:
    """Toxicity is the share of ``z``."""

    name, version = "stub", "1"

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float64]:
        return np.array([text.count("z") / max(1, len(text)) for text in texts])


def judged(toxicity: Any, ce: float = 1.0, broken: float = 0.0) -> Judgement:
    """A judgement of continuations with these toxicities, of which the share ``broken`` is broken."""
    found = np.array(toxicity, dtype=np.float64)
    ones = np.ones_like(found)
    which = np.arange(found.size).reshape(found.shape) < broken * found.size
    return Judgement(found, ce * ones, ones, which, 0 * ones, ones, {1: 1.0, 2: 1.0})


def parsed(parameters: dict[str, Any], **changes: Any) -> DetoxSettings:
    """The settings that a user gets who asks for ``parameters`` with ``changes``."""
    return DetoxSettings.parse({**parameters, **changes}, task="detox")


def texts(toxic: bool, n: int, seed: int) -> list[str]:
    rng = np.random.default_rng(seed)
    found = ["".join(rng.choice([*"abcdefgh"], 24)) for _ in range(n)]
    if toxic:
        found = [
            text[:place] + "z" + text[place + 1 :] for text, place in zip(found, rng.integers(6, size=n), strict=True)
        ]
    return [" ".join(text[start : start + 3] for start in range(0, 24, 3)) for text in found]


@pytest.fixture(scope="session")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("detox") / "texts.csv"
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["prompt", "target"])
        rows.writerows([text, "toxic"] for text in texts(True, 80, 0))
        rows.writerows([text, "neutral"] for text in texts(False, 80, 1))
    return path


@pytest.fixture
def parameters(table: Path, tiny_llama_dir: Path) -> dict[str, Any]:
    """Settings for the tiny model as plain values, without those that keep their defaults."""
    return {
        "toxic": [f"csv:{table}=toxic"],
        "neutral": [f"csv:{table}=neutral"],
        "text": "memory:tiny",
        "context_length": 32,
        "fit_texts": 30,
        "heldout_texts": 16,
        "latents": [1, 2],
        "prompt_toxicity": 0.05,
        "control_draws": 2,
        "text_predictions": 0,
        "max_loss_rise": 10.0,
        "test_prompts": 8,
        "new_tokens": 5,
        "samples": 1,
        "strengths": [1.0, 8.0],
        "diffmean_strengths": [1.0],
        "fluency_lm": str(tiny_llama_dir),
        "max_perplexity_ratio": 1e9,
        "max_broken_increase": 1.0,
        "sequences": 4,
        "predictions": 5,
        "utility_limit": 0,
        "bootstrap_replicates": 100,
    }


@pytest.fixture(scope="session")
def swearing(tiny_gpt2: TinyLM, tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    """The tiny GPT-2 with a final bias towards ``z``."""
    model, tokenizer = copy.deepcopy(tiny_gpt2[0]), tiny_gpt2[1]
    row = model.get_input_embeddings().weight[tokenizer.convert_tokens_to_ids("z")]
    model.transformer.ln_f.bias += 3.5 * row / row.norm() ** 2
    folder = tmp_path_factory.mktemp("swearing")
    for part in (model, tokenizer):
        part.save_pretrained(folder)
    return load_lm(str(folder), device=torch.device("cpu"), dtype=torch.float32)


@pytest.fixture
def tiny(swearing: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> TaskContext:
    for module in (data, continuations):
        monkeypatch.setattr(module, "toxicity_scorer", lambda name: Stub())
    return TaskContext(swearing, read=lambda ref: documents(), batch_size=8)


def z_probe(lm: LanguageModel) -> Tensor:
    """Intercept and weights that tell activations at ``z`` (near 1) from others (near 0), by least squares."""
    tokens = torch.tensor(lm.tokenizer(texts(True, 200, 9))["input_ids"])
    x = lm.prefix(tokens, [READS])[READS][:, 1:].flatten(0, 1).float()
    y = (tokens[:, 1:] == lm.tokenizer.convert_tokens_to_ids("z")).flatten().float()
    return torch.linalg.lstsq(torch.cat([torch.ones(len(x), 1), x], 1), y[:, None]).solution[:, 0]


class Planted(BaseAdapter):
    """A transcoder whose latent 3 fires on ``z`` and writes what makes the model say it; the others do neither."""

    def __init__(self, lm: LanguageModel, *, planted: bool = True, d_sae: int = 40) -> None:
        super().__init__(
            name="planted",
            architecture="relu",
            hook=HookSite(READS, WRITES),
            d_in=WIDTH,
            d_sae=d_sae,
            capabilities=frozenset(
                {
                    Capability.POSITION_WISE,
                    Capability.LINEAR_DECODER,
                    Capability.NON_NEGATIVE,
                    Capability.SPARSE_ENCODE,
                    Capability.TRANSCODER,
                }
            ),
        )
        draw = torch.Generator().manual_seed(0)
        rows = torch.randn(d_sae, WIDTH, generator=draw)
        z = lm.model.get_input_embeddings().weight[lm.tokenizer.convert_tokens_to_ids("z")].float()
        rows -= torch.outer(rows @ z, z) / (z @ z)
        if planted:
            rows[3] = z
        self.register_buffer("rows", rows / rows.norm(dim=1, keepdim=True))
        self.probe = z_probe(lm) if planted else None

    def encode(self, x: Tensor) -> Tensor:
        found = x.float() @ self.rows.T  # type: ignore[operator]
        found = torch.where(found > 0.5, found, 0.0)
        if self.probe is not None:
            found[..., 3] = (4 * (x.float() @ self.probe[1:] + self.probe[0] - 0.5)).relu()
        return found

    def decode(self, z: Tensor, x: Tensor | None = None) -> Tensor:
        return z @ self.rows  # type: ignore[operator]

    def decoder_directions(self) -> Tensor:
        return self.rows  # type: ignore[return-value]
