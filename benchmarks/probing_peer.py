"""One call of sae-probes' own runner for each SAE, as its README shows, in an environment of its own.

It reads settings as JSON from its first argument, and prints one line of JSON at its end. Only two things of sae-probes
are changed: its data are the rows that the other side reads, and a clock times loading the language model and its
passes. Activations are kept between SAEs, as its README recommends.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from benchmarks.clock import Time, phases


def main() -> None:
    settings = json.loads(sys.argv[1])
    with redirect_stdout(sys.stderr):  # because sae-probes prints its progress
        report = run(settings)
    print(json.dumps(report), flush=True)


def run(settings: dict[str, Any]) -> dict[str, Any]:
    """Run sae-probes, and return the seconds of its phases and the AUC of each SAE and k."""
    import pandas as pd
    from sae_lens import SAE
    from sae_probes import generate_model_activations, run_sae_evals, utils_data

    data = Path(settings["data"])
    names = [file.name.removesuffix(".csv.zst") for file in sorted((data / "cleaned_data").glob("*.csv.zst"))]
    index = utils_data.get_binary_df()  # the package's own index, which is read before the folder is changed
    sizes = utils_data.get_dataset_sizes()  # a dictionary that its modules share
    assert set(names) <= set(sizes), "sae-probes does not call one of the datasets binary"
    for name in names:
        sizes[name] = len(pd.read_csv(data / "cleaned_data" / f"{name}.csv.zst", compression="zstd"))
    utils_data.read_dataset_df.cache_clear()
    utils_data.get_binary_df = lambda: index
    utils_data.DATA_PATH = generate_model_activations.DATA_PATH = data

    clock = {"load": Time(), "passes": Time()}
    loader = generate_model_activations.HookedTransformer
    loader.from_pretrained_no_processing = _timed(loader.from_pretrained_no_processing, clock, "load")
    generate_model_activations.generate_single_dataset_activations = _timed(
        generate_model_activations.generate_single_dataset_activations, clock, "passes"
    )
    saes = [(Path(folder).name, SAE.load_from_disk(folder, device="cpu")) for folder in settings["saes"]]
    out = Path(settings["out"])
    begun = Time.now()
    for name, sae in saes:
        run_sae_evals(
            sae=sae,
            model_name=settings["model"],
            hook_name=settings["hook"],
            reg_type="l1",
            setting="normal",
            ks=settings["ks"],
            results_path=out / name,
            model_cache_path=out / "activations",
            datasets=names,
            device="cpu",
        )
    whole = Time.now() - begun
    return {
        **phases(whole, clock["load"], clock["passes"]),
        "auc": {name: _mean_auc(out / name, len(names)) for name, _ in saes},
        "versions": _versions(),
    }


def _timed(function: Any, clock: dict[str, Time], key: str) -> Any:
    def timed(*arguments: Any, **options: Any) -> Any:
        begun = Time.now()
        try:
            return function(*arguments, **options)
        finally:
            clock[key] += Time.now() - begun

    return timed


def _mean_auc(folder: Path, n_datasets: int) -> dict[str, float]:
    """Return the mean test AUC over datasets for each k."""
    rows = [row for file in folder.rglob("*.json") for row in json.loads(file.read_text())]
    by_k: dict[str, list[float]] = {}
    for row in rows:
        by_k.setdefault(str(row["k"]), []).append(row["test_auc"])
    assert all(len(values) == n_datasets for values in by_k.values())
    return {k: sum(values) / len(values) for k, values in by_k.items()}


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    names = ("sae-probes", "sae-lens", "transformer-lens", "scikit-learn", "torch", "numpy", "pandas")
    return {name: version(name) for name in names}


if __name__ == "__main__":
    os.environ["HF_HUB_OFFLINE"] = "1"
    main()
