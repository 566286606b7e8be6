"""A tiny language model on texts that it predicts well, and an SAE with latents for one of them, known beforehand."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from saebench.cards.card import cards_dir, load_card
from saebench.data.text import Documents
from saebench.errors import DataError
from saebench.evaluation.task import TaskOutput
from saebench.passes.context import TaskContext
from saebench.sae.base import BaseAdapter
from saebench.sae.protocol import Capability, HookSite
from saebench.tasks.unlearning.settings import UnlearningSettings
from saebench.tasks.unlearning.task import UnlearningTask
from tests.conftest import WIDTH
from tests.tasks.conftest import Plain

SITE = "blocks.1.hook_resid_post"
FORGET, RETAIN, OTHER = "memory:forget", "memory:retain", "memory:other"
# Two letters of the forget text are common ones, which the model has to keep.
ALPHABETS = {FORGET: "QRSTUVWXYZak", RETAIN: "abcdefghij", OTHER: "klmnopqrst"}
PLANTED = (3, 7)  # latents that fire on the forget text alone
CARD = load_card(cards_dir() / "unlearning.yaml")


def written(plain: Plain, tokenizer: Any, alphabet: str, n: int = 70, length: int = 13) -> list[str]:
    """Texts of these letters, each drawn with the probability that the model gives it."""
    letters = sorted(tokenizer.convert_tokens_to_ids(list(alphabet)))
    tokens = torch.full((n, 1), tokenizer.bos_token_id)
    rng = np.random.default_rng(0)
    for _ in range(length):
        p = np.exp(plain.log_probabilities(tokens)[:, -1, letters])
        drawn = [rng.choice(letters, p=row / row.sum()) for row in p]
        tokens = torch.cat([tokens, torch.tensor(drawn)[:, None]], 1)
    texts = ["".join(tokenizer.convert_ids_to_tokens(row)) for row in tokens[:, 1:]]
    return list(dict.fromkeys(texts))


def reader(texts: dict[str, list[str]]) -> Callable[[str], Documents]:
    def read(ref: str) -> Documents:
        if ref not in texts:
            raise DataError(f"no text {ref!r}")
        return Documents(ref, texts[ref])

    return read


class PlantedSAE(BaseAdapter):
    """ReLU latents. `PLANTED` read and write the direction in which the forget text differs, the others random ones."""

    def __init__(self, forget: Tensor, retain: Tensor, *, blind: bool = False, d_sae: int = 48) -> None:
        """Plant latents by activations ``[tokens, d]`` of both sides; with ``blind`` no latent ever fires."""
        capabilities = frozenset({Capability.LINEAR_DECODER, Capability.POSITION_WISE, Capability.NON_NEGATIVE})
        hook = HookSite.at(SITE)
        super().__init__(
            name="planted", architecture="relu", hook=hook, d_in=WIDTH, d_sae=d_sae, capabilities=capabilities
        )
        draw = torch.Generator().manual_seed(0)
        reads = torch.randn(d_sae, WIDTH, generator=draw)
        both = torch.cat([forget, retain])
        within = torch.cov(torch.cat([forget - forget.mean(0), retain - retain.mean(0)]).T) + 1e-3 * torch.eye(WIDTH)
        apart = torch.linalg.solve(within, forget.mean(0) - retain.mean(0))
        for latent in PLANTED:
            reads[latent] = apart
        thresholds = torch.quantile(both @ reads.T, 0.9, dim=0)  # random latents fire on a tenth of all tokens
        for latent, level in zip(PLANTED, (0.0, 0.3), strict=True):
            low, high = (retain @ apart).max(), torch.quantile(forget @ apart, 0.7)
            thresholds[latent] = low + level * (high - low).clamp(min=0)
        if blind:
            thresholds[:] = torch.inf
        self.register_buffer("reads", reads)
        self.register_buffer("thresholds", thresholds)
        rows = torch.randn(d_sae, WIDTH, generator=draw)
        rows[list(PLANTED)] = forget.mean(0) - retain.mean(0)
        self.register_buffer("rows", rows / rows.norm(dim=1, keepdim=True))

    def encode(self, x: Tensor) -> Tensor:
        return torch.relu(x.float() @ self.reads.T - self.thresholds)

    def decode(self, z: Tensor, x: Tensor | None = None) -> Tensor:
        return z @ self.rows

    def decoder_directions(self) -> Tensor:
        return self.rows


def planted_sae(context: TaskContext, **options: Any) -> PlantedSAE:
    def tokens(refs: Sequence[str]) -> Tensor:
        texts = [text for ref in refs for text in context.read(ref).texts]
        return torch.cat([x for x, _ in context.examples(texts, 16).tokens(SITE)])

    return PlantedSAE(tokens([FORGET]), tokens([RETAIN, OTHER]), **options)


def questions(path: Path, alphabet: str, n: int = 8) -> str:
    rng, letters = np.random.default_rng(len(alphabet)), [*alphabet]
    rows = [
        {
            "question": "".join(rng.choice(letters, 5)),
            "choices": ["".join(rng.choice(letters, size)) for size in (2, 3)],
            "answer": int(rng.integers(2)),
        }
        for _ in range(n)
    ]
    path.write_text("\n".join(map(json.dumps, rows)))
    return f"jsonl:{path}"


def small_settings(folder: Path, **changes: Any) -> UnlearningSettings:
    """The card's settings in a size that takes no time, with ``changes``; questions are written to ``folder``."""
    values = {
        "forget_text": FORGET,
        "retain_texts": [RETAIN, OTHER],
        "forget_questions": questions(folder / "forget.jsonl", ALPHABETS[FORGET]),
        "retain_questions": questions(folder / "retain.jsonl", ALPHABETS[RETAIN]),
        "context_length": 16,
        "predictions": 8,
        "fit_documents": 24,
        "validation_documents": 12,
        "test_documents": 14,
        "questions": 8,
        "question_length": 32,
        "latents": [2],
        "clamp_selections": ["sparsity_ratio"],  # the planted latents are rare and small
        "dsg_selections": ["squared_mean_ratio"],
        "strengths": [1.0, 4.0],
        "direction_strengths": [0.5, 1.0],
        "ablation_strengths": [1.0],
        "weight_strengths": [0.5, 1.0],
        "topic_ratio": 2.0,
        "control_draws": 2,
        "fine_tune_steps": 2,
        "sspu_latents": 3,
        "generation_documents": 2,
        "new_tokens": 8,
        "bootstrap_replicates": 100,
        **changes,
    }
    return UnlearningSettings.parse(values, task="unlearning")


def measure(sae: Any, context: TaskContext, settings: UnlearningSettings) -> TaskOutput:
    task = UnlearningTask()
    task.prepare(context, settings)
    return task.run(sae, context, settings)


def values(output: TaskOutput) -> dict[tuple[str, str], float | None]:
    return {(m.metric, m.subset): m.value for m in output.measurements}
