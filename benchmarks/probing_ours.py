"""One cold run of ``sparse_probing`` by ``saebench.run``, which takes settings as JSON and prints one line of JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

from benchmarks.clock import Time, phases
from benchmarks.ours import cold, loading_with


def main() -> None:
    print(json.dumps(run(json.loads(sys.argv[1]))), flush=True)


def run(settings: dict[str, Any]) -> dict[str, Any]:
    """Run the task, and return the seconds of its phases and the AUC of each SAE and k."""
    import saebench
    from saebench.lm import load
    from saebench.lm.model import LanguageModel
    from saebench.passes.examples import Examples
    from saebench.progress import NullProgress
    from saebench.runner import execute  # noqa: F401  (a run imports it, and this is not timed)

    clock = {"load": Time(), "passes": Time()}
    compute = Examples._compute

    def timed_load(*arguments: Any, **options: Any) -> LanguageModel:
        begun = Time.now()
        lm = load.load_lm(*arguments, **options)
        clock["load"] += Time.now() - begun
        return lm

    def timed_compute(self: Examples, index: int) -> Any:
        begun = Time.now()
        result = compute(self, index)
        clock["passes"] += Time.now() - begun
        return result

    parameters = {
        "datasets": [f"csv:{file}" for file in settings["files"]],
        "k": list(settings["ks"]),
        "train_examples": settings["train"],
        "test_examples": settings["test"],
        "context_length": settings["context_length"],
        "pooling": "last",
        "penalty": "l1",
        "baselines": [],  # sae-probes' runner of SAE probes does not fit any either
        "regimes": [],
    }
    begun = Time.now()
    with cold(), loading_with(timed_load), patch.object(Examples, "_compute", timed_compute):
        table = saebench.run(
            [f"sae_lens:{folder}" for folder in settings["saes"]],
            tasks="sparse_probing",
            model=settings["model"],
            parameters={"sparse_probing": parameters},
            dtype="float32",
            device="cpu",
            out=settings["out"],
            progress=NullProgress(),
        )
    whole = Time.now() - begun
    ok = table[(table["status"] == "ok") & (table["subset"] == "")]
    if ok["sae"].nunique() != len(settings["saes"]):
        raise RuntimeError("; ".join(sorted({text for text in table["error"] if text})))
    names = {f"auc_k{k}": str(k) for k in settings["ks"]}
    return {
        **phases(whole, clock["load"], clock["passes"]),
        "auc": {
            Path(str(sae)).name: dict(zip(rows["metric"].map(names), rows["value"].astype(float), strict=True))
            for sae, rows in ok[ok["metric"].isin(list(names))].groupby("sae")
        },
    }


if __name__ == "__main__":
    main()
