"""Measure, and write result files: ``python -m benchmarks [peer] [floor] [growth] [probing] [generation]``."""

from __future__ import annotations

import argparse
import os
import sys
from dataclasses import replace
from pathlib import Path

from benchmarks import floor, generation, growth, peer, probing
from benchmarks.child import ROOT
from benchmarks.inputs import Work
from benchmarks.record import RESULTS, BenchmarkResult
from saebench.errors import SaebenchError
from saebench.progress import ConsoleProgress, Progress

PARTS = ("peer", "floor", "growth", "probing", "generation")
GEMMA = Work("asset:gemma-3-270m", "blocks.9.hook_resid_post", sequences=16)
# Growth is measured on a smaller language model, which has a width of 576 and a vocabulary of 49,152.
SMOL = Work("asset:smollm2-135m", "blocks.15.hook_resid_post", sequences=16)
SMOL_WIDTH, LATENTS = 576, 2048
FACTORS = {"tokens": (1, 2, 4, 8, 16), "saes": (1, 2, 4, 8, 16), "latents": (1, 2, 4, 8, 16, 32)}


def measure(part: str, options: argparse.Namespace, progress: Progress) -> BenchmarkResult:
    """Measure one of `PARTS` and return the result."""
    quick = options.quick
    gemma = Work(GEMMA.model, GEMMA.hook, 4, 32) if quick else GEMMA
    if part == "peer":
        counts = (1, 2) if quick else (1, 3, 10)
        return peer.compare(gemma, counts, 1 if quick else 3, options.peer_python, options.device, progress)
    if part == "floor":
        counts = (1, 2) if quick else (1, 10)
        return floor.measure(gemma, counts, 1 if quick else 3, options.device, options.dtype, progress)
    if part == "probing":
        whole = probing.ProbingWork(GEMMA.model, GEMMA.hook)
        tiny = replace(whole, datasets=whole.datasets[:2], rows=140, ks=(1, 16), saes=1)
        return probing.compare(tiny if quick else whole, 1, options.peer_python, progress)
    if part == "generation":
        everything = generation.GenerationWork(GEMMA.model, GEMMA.hook)
        little = replace(everything, prompts=2, new_tokens=2, settings=(1, 2))
        return generation.measure(little if quick else everything, 1 if quick else 3, options.device, progress)
    smol = Work(SMOL.model, SMOL.hook, 4, 32) if quick else SMOL
    factors = {axis: multiples[:2] for axis, multiples in FACTORS.items()} if quick else FACTORS
    return growth.measure(smol, SMOL_WIDTH, LATENTS, factors, options.device, options.dtype, progress)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="what to measure (default: all)")
    parser.add_argument(
        "--quick", action="store_true", help="use tiny sizes, to see that everything runs; the figures mean nothing"
    )
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of result files (default: %(default)s)")
    parser.add_argument(
        "--peer-python",
        type=Path,
        default=ROOT / ".venv-peer/bin/python",
        help="the Python of the environment with SAEBench and sae-probes (default: %(default)s)",
    )
    parser.add_argument("--device", default="cpu", help="the device to measure on (default: %(default)s)")
    parser.add_argument(
        "--dtype", default="float32", help="the dtype of floor and growth; peer has its own (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    if options.quick and options.out.resolve() == RESULTS.resolve():
        parser.error("--quick gives figures that are not worth keeping; name another folder with --out")

    progress = ConsoleProgress()
    for part in options.parts or PARTS:
        progress.log(f"{part} (load of this machine: {os.getloadavg()[0]:.2f})")
        try:
            path = measure(part, options, progress).write(options.out)
        except (SaebenchError, RuntimeError) as error:
            print(f"{part}: {error}", file=sys.stderr)
            return 1
        progress.log(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
