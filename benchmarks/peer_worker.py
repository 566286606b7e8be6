"""One call of SAEBench's core evaluation, as its users make it, in SAEBench's own environment.

It reads settings as JSON from its first argument, and prints one line of JSON at its end. SAEBench is called through
its public ``multiple_evals``. Nothing that takes part in the work is changed: loading the language model and reading a
batch of tokens are wrapped, to time the one and hash the other. The question to the hub whether a pre-tokenised dataset
names its tokenizer is left out, since a local folder is not on the hub.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import memory

STARTED = time.monotonic()


def main() -> None:
    settings = json.loads(sys.argv[1])
    import sae_bench.evals.core.main as core
    import sae_lens.training.activations_store as activations_store
    import torch
    from sae_lens import SAE

    imported = time.monotonic()
    activations_store.validate_pretokenized_dataset_tokenizer = lambda **_: None
    loading: dict[str, Any] = {}
    digest = hashlib.sha256()
    batches: list[Any] = []
    load, read = core.HookedTransformer.from_pretrained_no_processing, core.ActivationsStore.get_batch_tokens

    def timed_load(*arguments: Any, **options: Any) -> Any:
        begun = time.monotonic()
        model = load(*arguments, **options)
        loading["seconds"] = time.monotonic() - begun
        memory.reset_peak()
        loading["resident"] = memory.resident_bytes()
        return model

    def kept_read(*arguments: Any, **options: Any) -> Any:
        batch = read(*arguments, **options)
        batches.append(batch)
        return batch

    core.HookedTransformer.from_pretrained_no_processing = timed_load
    core.ActivationsStore.get_batch_tokens = kept_read

    saes = []
    for folder in settings["saes"]:
        sae = SAE.load_from_disk(folder, device=settings["device"])
        sae.cfg.metadata.model_name = settings["model"]
        saes.append((Path(folder).name, sae))
    begun = time.monotonic()
    results = core.multiple_evals(
        selected_saes=saes,
        n_eval_reconstruction_batches=settings["batches"],
        n_eval_sparsity_variance_batches=settings["batches"],
        eval_batch_size_prompts=settings["batch_size"],
        compute_featurewise_density_statistics=True,
        compute_featurewise_weight_based_metrics=True,
        exclude_special_tokens_from_reconstruction=True,
        dataset=settings["dataset"],
        context_size=settings["context_length"],
        output_folder=settings["out"],
        dtype=settings["dtype"],
        device=settings["device"],
        force_rerun=True,
    )
    seconds = time.monotonic() - begun
    if len(results) != len(saes):
        sys.exit(f"SAEBench evaluated {len(results)} of {len(saes)} SAEs; its reasons are above.")
    tokens = torch.cat(batches[: settings["batches"]]).cpu()  # the tokens of the first SAE's losses
    digest.update(f"{tuple(tokens.shape)}|".encode() + tokens.numpy().astype("<i8").tobytes())
    report = {
        "import_seconds": imported - STARTED,
        "load_seconds": loading["seconds"],
        "evaluation_seconds": seconds - loading["seconds"],
        "resident_after_load": loading["resident"],
        "peak": memory.peak_bytes(),
        "tokens_sha256": digest.hexdigest(),
        "same_tokens_each_time": _same_each_time(batches, settings["batches"]),
        "metrics": {name: _flat(result["metrics"]) for (name, _), result in zip(saes, results, strict=True)},
        "versions": _versions(),
    }
    print(json.dumps(report), flush=True)


def _same_each_time(batches: list[Any], n: int) -> bool:
    """Return whether the losses and statistics of every SAE read the same batches as the first SAE's losses."""
    import torch

    return all(torch.equal(batch, batches[index % n]) for index, batch in enumerate(batches))


def _flat(metrics: dict[str, dict[str, float]]) -> dict[str, float]:
    return {name: value for group in metrics.values() for name, value in group.items()}


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    names = ("sae-bench", "sae-lens", "transformer-lens", "transformers", "torch", "numpy", "datasets")
    return {name: version(name) for name in names}


if __name__ == "__main__":
    os.environ["HF_HUB_OFFLINE"] = "1"
    main()
