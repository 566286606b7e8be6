"""One project on disk with inputs for every task, and the ways in which a user can write where its files lie."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.runner.conftest import SITE, save_topk

SAES = ("one", "two", "three")
CONTROL = "baseline:random?d_sae=64&l0=8"  # fitted to the text


def make_project(root: Path, model: Path, fluency: Path) -> Path:
    """Write language models, SAEs, texts, questions, labelled and parallel data below ``root``, and return it."""
    root.mkdir(parents=True)
    shutil.copytree(model, root / "model")
    shutil.copytree(fluency, root / "fluency")
    for seed, name in enumerate(SAES):
        save_topk(root / "saes" / name, seed)
    data = root / "data"
    data.mkdir()
    for seed, name in enumerate(("text", "forget", "retain", "other")):
        _text(data / f"{name}.jsonl", np.random.default_rng(seed))
    rng = np.random.default_rng(0)
    for seed, name in enumerate(("letters", "numbers")):
        _labelled(data / f"{name}.csv", np.random.default_rng(seed), seed)
    words = ["".join(rng.choice([*"abcdef"], 5)) for _ in range(40)]
    with (data / "parallel.jsonl").open("w") as file:
        for row in range(45):
            split = ("train", "validation", "test")[row // 15]
            said = " ".join(rng.choice(words, 4))
            languages = {"en": said, "fr": said.replace("a", "z"), "de": said.upper()}
            file.write(json.dumps({"split": split, **languages}) + "\n")
    for side in ("forget", "retain"):
        with (data / f"{side}-questions.jsonl").open("w") as file:
            for number in range(6):
                choices = rng.choice(words, 3, replace=False).tolist()
                question = {"question": f"{side} {number}?", "choices": choices, "answer": int(rng.integers(3))}
                file.write(json.dumps(question) + "\n")
    return root


def _text(path: Path, rng: np.random.Generator) -> None:
    with path.open("w") as file:
        for number in range(90):
            letters = "".join(rng.choice([*"abcdefghij klmnop"], 40))
            file.write(json.dumps({"text": f"{number} {letters} {('stop', 'end')[number % 2]}, {letters[:9]}"}) + "\n")


def _labelled(path: Path, rng: np.random.Generator, seed: int) -> None:
    rows = [
        f"{seed}{number} {''.join(rng.choice([*'abcdefgh'], 8))} {mark} end,{mark}"
        for number in range(60)
        for mark in ("x", "y")
    ]
    path.write_text("\n".join(["prompt,target", *rows]) + "\n")


@dataclass(frozen=True)
class Spelling:
    """A way to write the path of a file of the project, and the folder from which a user does so."""

    write: Callable[[Path], str]
    start: Path


def spellings(project: Path, copy: Path, link: Path) -> dict[str, Spelling]:
    """All spellings: of the project itself, through the symlink ``link``, and of the ``copy`` elsewhere."""
    return {
        "absolute": Spelling(lambda path: str(project / path), project),
        "relative": Spelling(str, project),
        "dotted": Spelling(lambda path: f"./{path}", project),
        "around": Spelling(lambda path: f"../saes/../{path}", project / "data"),
        "symlink": Spelling(lambda path: str(link / path), project),
        "copy": Spelling(lambda path: os.path.relpath(copy / path, project), project),
    }


def parameters(write: Callable[[Path], str]) -> dict[str, dict[str, Any]]:
    """Small settings of every task, with each file as ``write`` spells it."""

    def file(kind: str, name: str) -> str:
        return f"{kind}:{write(Path('data') / name)}"

    text = file("jsonl", "text.jsonl")
    sets = [file("csv", "letters.csv"), file("csv", "numbers.csv")]
    few = {"bootstrap_replicates": 100}
    return {
        "core": {"text": text, "context_length": 16, "sequences": 4, **few},
        "dark_matter": {"text": text, "context_length": 32, "sequences": 6, "loss_sequences": 3, **few},
        "sparse_probing": {
            "datasets": sets,
            "k": [1, 16],
            "train_examples": 40,
            "test_examples": 20,
            "context_length": 24,
            "baselines": ["mlp"],
            "regimes": ["scarcity", "noise"],
            "scarcity_sizes": [8, 16],
            "noise_shares": [0.2],
            "resamples": 2,
            **few,
        },
        "concept_separability": {
            "datasets": [*sets, f"words:{text}?words=end,stop"],
            "examples": 10,
            "context_length": 24,
            "permutations": 20,
        },
        "concept_suppression": {
            "datasets": sets,
            "fit_examples": 12,
            "validation_examples": 5,
            "test_examples": 8,
            "context_length": 24,
            "latents": [1, 4],
            "perplexity_text": text,
            "perplexity_context_length": 24,
            "validation_sequences": 3,
            "test_sequences": 4,
            "perplexity_predictions": 6,
            **few,
        },
        "joint_splice": {"text": text, "context_length": 16, "sequences": 4, **few},
        "language_steering": {
            "parallel": file("jsonl", "parallel.jsonl"),
            "languages": ["en", "fr", "de"],
            "train_sentences": 12,
            "random_sequences": 8,
            "consistency": 0.3,
            "random_rate": 1.0,
            "strengths": [1.0],
            "diffmean_strengths": [1.0],
            "recover_strengths": [],
            "frame": "line",
            "validation_prompts": 2,
            "test_prompts": 3,
            "max_new_tokens": 4,
            "ablation_sentences": 4,
            "ablation_predictions": 4,
            "context_length": 48,
            **few,
        },
        "detox": {
            "toxic": [f"{sets[0]}=x", f"{sets[1]}=x", f"{sets[0]}=x"],
            "neutral": [f"{sets[0]}=y", f"{sets[1]}=y", f"{sets[1]}=y"],
            "text": text,
            "prompts": file("jsonl", "other.jsonl"),
            "context_length": 64,
            "fit_texts": 20,
            "heldout_texts": 10,
            "latents": [2],
            "min_auroc": 0.5,
            "prompt_toxicity": 0.0,
            "control_draws": 2,
            "text_predictions": 3,
            "test_prompts": 3,
            "new_tokens": 2,
            "samples": 1,
            "strengths": [1.0],
            "diffmean_strengths": [1.0],
            "sequences": 3,
            "predictions": 4,
            "utility_limit": 0,
            "max_perplexity_ratio": 1e9,
            "max_broken_increase": 1.0,
            "fluency_lm": write(Path("fluency")),
            **few,
        },
        "unlearning": {
            "forget_text": file("jsonl", "forget.jsonl"),
            "retain_texts": [file("jsonl", "retain.jsonl"), file("jsonl", "other.jsonl")],
            "forget_questions": file("jsonl", "forget-questions.jsonl"),
            "retain_questions": file("jsonl", "retain-questions.jsonl"),
            "context_length": 32,
            "predictions": 6,
            "fit_documents": 9,
            "validation_documents": 5,
            "test_documents": 5,
            "questions": 4,
            "question_length": 64,
            "latents": [2],
            "strengths": [1.0],
            "retain_threshold": 1.0,
            "ratio_percentile": 0.0,
            "direction_strengths": [1.0],
            "ablation_strengths": [1.0],
            "weight_strengths": [1.0],
            "fine_tune_steps": 2,
            "sspu_latents": 2,
            "generation_documents": 2,
            "new_tokens": 8,
            **few,
        },
        "seed_stability": {
            "text": text,
            "context_length": 16,
            "sequences": 6,
            "threshold": 0.3,
            "thresholds": [0.3],
            "at_init": [f"sae_lens:{write(Path('saes') / name)}" for name in SAES],
            "subspace_draws": 2,
            "cluster_size": 4,
            "control_draws": 3,
            "loss_sequences": 3,
            **few,
        },
    }


def options(write: Callable[[Path], str]) -> dict[str, Any]:
    """Options of every run, beside the tasks with their parameters, and the SAEs."""
    return {
        "model": write(Path("model")),
        "device": "cpu",
        "dtype": "float32",
        "hook": SITE,
        "preset": "smoke",
        "cache_budget": 0,
    }
