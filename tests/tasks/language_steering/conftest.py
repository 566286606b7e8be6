"""Three languages with alphabets of their own, a model that continues in the language that it reads, and an SAE."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
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
from saebench.scorers import language
from saebench.tasks.language_steering.settings import LanguageSteeringSettings
from tests.conftest import VOCABULARY, WIDTH, build_model, build_tokenizer

SITE = "blocks.1.hook_resid_post"
ALPHABETS = {"en": "abcdefgh", "fr": "ijklmnop", "de": "qrstuvwx"}
DIRECTIONS = torch.linalg.qr(torch.randn(WIDTH, WIDTH, generator=torch.Generator().manual_seed(0)))[0]
LANGUAGE = {name: number for number, name in enumerate(ALPHABETS)}  # its direction, and its latent
EVERY = 3  # the direction that every token has
CARD = load_card(cards_dir() / "language_steering.yaml")


class Stub:
    """Identifies a language by its alphabet."""

    name = version = "stub"

    def __call__(self, texts: Sequence[str]) -> list[str]:
        return [
            max(ALPHABETS, key=lambda each: sum(text.count(c) for c in ALPHABETS[each])) if text else "und"
            for text in texts
        ]

    def probabilities(self, texts: Sequence[str], languages: Sequence[str]) -> NDArray[np.float64]:
        raise NotImplementedError


class Planted(BaseAdapter):
    """Latent j reads and writes direction j; the first are the languages', then the one that all tokens have."""

    def __init__(self, directions: Tensor = DIRECTIONS, threshold: float = 0.5) -> None:
        capabilities = frozenset({Capability.LINEAR_DECODER, Capability.POSITION_WISE, Capability.NON_NEGATIVE})
        super().__init__(
            name="planted",
            architecture="planted",
            hook=HookSite.at(SITE),
            d_in=WIDTH,
            d_sae=len(directions),
            capabilities=capabilities,
        )
        self.register_buffer("rows", directions.clone())
        self.threshold = threshold

    def encode(self, x: Tensor) -> Tensor:
        z = x.float() @ self.rows.T
        return torch.where(z > self.threshold, z, 0.0)

    def decode(self, z: Tensor, x: Tensor | None = None) -> Tensor:
        return z @ self.rows

    def decoder_directions(self) -> Tensor:
        return self.rows

    def settings(self) -> dict[str, object]:
        return {"threshold": self.threshold}


@pytest.fixture(scope="session")
def speaking(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    """Blocks that add nothing, and embeddings that are the unembedding: a letter is followed by its language's."""
    model, tokenizer = build_model("llama"), build_tokenizer()
    draw = torch.Generator().manual_seed(1)
    own = torch.randn(VOCABULARY, WIDTH - EVERY - 1, generator=draw) * 0.1
    embedding = own @ DIRECTIONS[EVERY + 1 :] + DIRECTIONS[EVERY]
    for name, alphabet in ALPHABETS.items():
        letters = tokenizer.convert_tokens_to_ids(list(alphabet))
        embedding[letters] += 2 * DIRECTIONS[LANGUAGE[name]]
    with torch.no_grad():
        model.get_input_embeddings().weight.copy_(embedding)
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
    folder = tmp_path_factory.mktemp("speaking")
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return load_lm(str(folder), device=torch.device("cpu"), dtype=torch.float32)


@pytest.fixture(scope="session")
def written(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """``written(train=…)``: the reference of a parallel set with that many rows."""

    def write(train: int = 12, validation: int = 4, test: int = 8) -> str:
        rng = np.random.default_rng(0)
        path = tmp_path_factory.mktemp("parallel") / "rows.jsonl"
        rows = []
        for split, n in (("train", train), ("validation", validation), ("test", test)):
            for _ in range(n):
                length = rng.integers(8, 14)
                row = {each: "".join(rng.choice(list(letters), size=length)) for each, letters in ALPHABETS.items()}
                rows.append(json.dumps({"split": split, **row}))
        path.write_text("\n".join(rows))
        return f"jsonl:{path}"

    return write


@pytest.fixture(scope="module")
def stub() -> Iterator[None]:
    """The settings' identifier is the stub, so that the tests need no extra."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(language._BUILDERS, "lingua", lambda languages: Stub())
        yield


@pytest.fixture(scope="module")
def parameters(written: Callable[..., str]) -> dict[str, Any]:
    changes = {
        "parallel": written(),
        "identifier": "lingua",
        "train_sentences": 12,
        "random_sequences": 40,
        "random_rate": 0.9,
        "consistency": 1.0,
        "nu_latents": 1,
        "strengths": [0.01, 2.0],
        "diffmean_strengths": [0.01, 2.0],
        "frame": "line",
        "ablation_centre": "zero",
        "recover_sentences": 6,
        "validation_prompts": 2,
        "test_prompts": 4,
        "max_new_tokens": 6,
        "control_draws": 2,
        "ablation_sentences": 4,
        "ablation_predictions": 3,
        "context_length": 24,
        "bootstrap_replicates": 100,
    }
    return CARD.resolve("standard", {**changes, "methods": ["langfir", "nu"], "recover_strengths": [1.0]})


def parsed(parameters: dict[str, Any], **changes: Any) -> LanguageSteeringSettings:
    """The settings of ``parameters`` with some changes."""
    return LanguageSteeringSettings.parse({**parameters, **changes}, task="language_steering")


@pytest.fixture(scope="module")
def settings(parameters: dict[str, Any]) -> LanguageSteeringSettings:
    return parsed(parameters)


@pytest.fixture
def context(speaking: LanguageModel) -> TaskContext:
    return TaskContext(speaking)
