"""Labelled data on disk that the tiny models can read, and settings that fit it."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from saebench.tasks.concept_separability.settings import ConceptSeparabilitySettings

CONCEPTS = ("birds", "boats", "bread")


def rows(n: int, seed: int = 0, concepts: tuple[str, ...] = CONCEPTS) -> list[tuple[str, str]]:
    """``n`` prompts of each concept: random letters, and a last letter that tells the concept."""
    draw = np.random.default_rng(seed)
    return [
        ("".join(draw.choice([*"abcdefgh"], size=draw.integers(4, 12))) + f" {i} {'xyz'[k]}", concept)
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
    return lambda n=30, **options: write(tmp_path / f"{n}.csv", rows(n, **options))


@pytest.fixture
def settings() -> Callable[..., ConceptSeparabilitySettings]:
    """``settings(*refs, **changes)``: settings that fit the tiny models, for the datasets ``refs``."""
    base = {
        "examples": 12,
        "context_length": 24,
        "pooling": "last",
        "estimator": "histogram",
        "bins": 4,
        "permutations": 20,
    }
    return lambda *refs, **changes: ConceptSeparabilitySettings.parse(
        {"datasets": list(refs), **base, **changes}, task="concept_separability"
    )
