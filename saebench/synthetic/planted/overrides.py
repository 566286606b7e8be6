"""The settings with which each task runs on a planted language model, in seconds for each SAE.

They name the inputs and set sizes. Everything else stays as the task's card has it, except that `language_steering`
does not leave out latents that fire on random words.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from saebench.errors import UsageError, did_you_mean
from saebench.synthetic.planted.make import JUDGE, load_process
from saebench.synthetic.planted.texts import BINARY, SEVERAL

TASKS = (
    "core",
    "sparse_probing",
    "seed_stability",
    "concept_separability",
    "dark_matter",
    "unlearning",
    "detox",
    "concept_suppression",
    "language_steering",
)
_REPLICATES = {"bootstrap_replicates": 200}


def overrides(folder: str | Path, task: str) -> dict[str, Any]:
    """Return the settings with which a task runs on the planted model in a folder.

    Args:
        folder: A folder that `make` wrote.
        task: One of `TASKS`.

    Raises:
        UsageError: The task is another one.
        ModelError: The folder holds no planted model.
    """
    if task not in TASKS:
        raise UsageError(
            f"There are no settings of {task!r} for planted models.{did_you_mean(task, TASKS)} There are those of "
            f"{', '.join(TASKS)}."
        )
    process = load_process(folder)
    recipe, languages = process.vocabulary.recipe, process.vocabulary.languages

    def file(name: str, kind: str = "jsonl") -> str:
        return f"{kind}:{Path(folder) / name}.jsonl"

    def labelled(*names: str) -> list[str]:
        return [file(f"labelled-{name}") for name in names]

    documents, length = file("documents"), recipe.words + 2  # sequences of one document each, with BOS and EOS
    sampled = {"text": documents, "context_length": length, "sequences": 64, **_REPLICATES}
    match task:
        case "core":
            return sampled
        case "seed_stability":
            return {**sampled, "loss_sequences": 8, "subspace_draws": 2, "cluster_size": 4, "control_draws": 2}
        case "dark_matter":
            return {**sampled, "loss_sequences": 16, "random_direction_control": False}
        case "sparse_probing":
            return {
                "datasets": labelled(*BINARY),
                "k": [1, 2, 16],
                "train_examples": 2 * recipe.labelled // 4,
                "test_examples": recipe.labelled // 4,
                "context_length": 32,
                "baselines": [],
                **_REPLICATES,
            }
        case "concept_separability":
            return {
                "datasets": labelled(*SEVERAL, "toxic", "marker-0"),
                "examples": min(30, recipe.labelled // 5),
                "context_length": 32,
                "permutations": 99,
            }
        case "concept_suppression":
            return {
                "datasets": labelled("topics"),
                "fit_examples": 32,
                "validation_examples": 16,
                "test_examples": 32,
                "context_length": 32,
                "latents": [1, 4, 16],
                "perplexity_text": file("unlabelled"),
                "perplexity_context_length": length,
                "validation_sequences": 4,
                "test_sequences": 8,
                "perplexity_predictions": 16,
                **_REPLICATES,
            }
        case "unlearning":
            n = recipe.forget_documents  # of which the calibration documents are left out
            return {
                "forget_text": file("forget"),
                "retain_texts": [file("retain")],
                "forget_questions": file("forget-questions"),
                "retain_questions": file("retain-questions"),
                "methods": ["clamp", "conditional", "dsg", "diffmean"],
                "context_length": length,
                "predictions": 16,
                "fit_documents": 2 * n // 5,
                "validation_documents": n // 10,
                "test_documents": n // 5,
                "questions": recipe.questions,
                "latents": [1, 3, 10],
                "strengths": [0.0, 0.5, 1.0, 2.0, 4.0],
                "generation_documents": 0,
                "saebench_score": False,
                **_REPLICATES,
            }
        case "detox":
            return {
                "toxic": [f"{file('labelled-toxic')}=1"],
                "neutral": [f"{file('labelled-toxic')}=0"],
                "text": documents,
                "context_length": length,
                "fit_texts": recipe.labelled // 4,
                "heldout_texts": recipe.labelled // 8,
                "latents": [1, 4],
                "test_prompts": 24,
                "new_tokens": 16,
                "samples": 1,
                "strengths": [0.5, 1.0, 2.0, 4.0],
                "diffmean_strengths": [0.5, 1.0, 2.0],
                "methods": ["random_latents", "noise", "diffmean"],
                "fluency_lm": str(Path(folder) / JUDGE),
                "sequences": 8,
                "utility_tasks": [],
                "utility_limit": 0,
                **_REPLICATES,
            }
        case _:
            return {
                "parallel": file("parallel"),
                "source": languages[0],
                "frame": "half",
                "strengths": [0.25, 1.0, 4.0, 16.0],
                "random_rate": 1.0,  # every word belongs to a language here, so random words tell nothing
                "train_sentences": recipe.sentences // 3,
                "random_sequences": recipe.sentences // 3,
                "recover_sentences": 20,
                "validation_prompts": 6,
                "test_prompts": 16,
                "max_new_tokens": 7,
                "ablation_sentences": 16,
                "context_length": 32,
                **_REPLICATES,
            }
