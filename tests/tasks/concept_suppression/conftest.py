"""Labelled data on disk that the tiny models can read, general text, and settings that fit them."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from saebench.tasks.concept_suppression.settings import ConceptSuppressionSettings

CONCEPTS = ("birds", "boats", "bread")
MARKS = ("x", "y", "z")  # each concept has a letter that its examples are full of and others lack


def rows(n: int, seed: int = 0, concepts: tuple[str, ...] = CONCEPTS) -> list[tuple[str, str]]:
    """``n`` prompts of each concept: random letters, a third of them the concept's own."""
    draw = np.random.default_rng(seed)
    return [
        ("".join(draw.choice([*"abcdef", *MARKS[k] * 3], size=draw.integers(8, 16))) + f"{MARKS[k]}{i}", concept)
        for i in range(n)
        for k, concept in enumerate(concepts)
    ]


def write(path: Path, content: list[tuple[str, str]]) -> str:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("prompt", "target"), *content])
    return f"csv:{path}"


@pytest.fixture
def dataset(tmp_path: Path) -> Callable[..., str]:
    """``dataset(n)``: the reference of a file with ``n`` examples of each concept."""
    return lambda n=40, **options: write(tmp_path / f"{n}.csv", rows(n, **options))


@pytest.fixture(scope="session")
def settings() -> Callable[..., ConceptSuppressionSettings]:
    """``settings(*refs, **changes)``: settings that fit the tiny models, for the datasets ``refs``."""
    base = {
        "fit_examples": 20,
        "validation_examples": 6,
        "test_examples": 9,
        "complement_share": 0.5,
        "context_length": 24,
        "methods": ["app", "zero", "range", "partial"],
        "latents": [1, 4],
        "selection": "separability",
        "partial_factor": 0.5,
        "range_tau": 2.0,
        "ablation_strengths": [0.5, 1.0],
        "max_complement_drop": 1.0,
        "max_perplexity_ratio": 1000.0,
        "control_draws": 2,
        "equal_drop": 0.25,
        "perplexity_text": "memory:tiny",
        "perplexity_context_length": 16,
        "validation_sequences": 3,
        "test_sequences": 5,
        "perplexity_predictions": 4,
        "bootstrap_replicates": 100,
    }
    return lambda *refs, **changes: ConceptSuppressionSettings.parse(
        {"datasets": list(refs), **base, **changes}, task="concept_suppression"
    )
