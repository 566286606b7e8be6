"""Plant every mistake into SAEs of the zoo, and print what the diagnosis says, as a table in Markdown.

It takes a quarter of an hour on one core: ``python -m tests.diagnosis``.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch

from saebench.diagnosis.diagnose import Diagnosis, diagnose
from saebench.diagnosis.verdict import Outcome, Row
from saebench.lm.load import load_lm
from saebench.passes.context import TaskContext
from saebench.sae.base import LoadContext
from saebench.sae.reference import load_sae, parse_sae_ref
from saebench.sae.zoo import zoo_names
from tests.diagnosis import without_bos
from tests.diagnosis.planted import HOOK, PLANTS, Plant

MODEL, TEXT = "asset:gemma-3-270m", "asset:sae-probes/97_news_class"


def diagnosed(reference: str, context: TaskContext) -> Diagnosis:
    parsed = parse_sae_ref(reference)
    return diagnose(parsed, load_sae(parsed, LoadContext(d_in=context.lm.d_at)), context, TEXT)


def numbers(row: Row | None) -> str:
    return " | ".join(f"{value:.3g}" for value in (row.fvu, row.standardised, row.l0)) if row else " | | "


def main() -> None:
    """Print the tables."""
    context = TaskContext(load_lm(MODEL, device=torch.device("cpu"), dtype=torch.float32))
    print("| SAE | FVU | standardised | L0 | verdict |\n|---|---|---|---|---|")
    for name in zoo_names():
        diagnosis = diagnosed(f"zoo:{name}", context)
        print(f"| `zoo:{name}` | {numbers(diagnosis.loaded)} | {diagnosis.verdict.outcome} |", flush=True)
    x = context.calibration(TEXT, HOOK)
    named = 0
    print(
        "\n| mistake | FVU | standardised | L0 | named | FVU | standardised | L0 |\n|---|---|---|---|---|---|---|---|"
    )
    with tempfile.TemporaryDirectory() as folder:
        trained = Plant("trained without BOS", "bos", ("sequences without",))
        references = [(plant, plant.write(Path(folder) / str(n), x)) for n, plant in enumerate(PLANTS)]
        for plant, reference in [*references, (trained, without_bos.write(Path(folder) / "bos", context, TEXT))]:
            diagnosis = diagnosed(reference, context)
            best = diagnosis.verdict.best if diagnosis.verdict.outcome is Outcome.OTHER else None
            right = best is not None and plant.is_undone_by(best.variant)
            named += right
            found = (best.variant.label if best else str(diagnosis.verdict.outcome)) + ("" if right else " (wrong)")
            line = f"| {plant.name} | {numbers(diagnosis.loaded)} | {found} | {numbers(best)} |"
            print(line.replace("||", "‖"), flush=True)  # two bars would end a cell of the table
    print(f"\n{named} of {len(PLANTS) + 1} mistakes are named.")


if __name__ == "__main__":
    main()
