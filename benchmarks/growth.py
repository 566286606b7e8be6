"""How the time and memory of ``core`` grow with tokens, SAEs and latents. Every point is a process of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from benchmarks.arithmetic import exponent, last_doubling
from benchmarks.child import run_child
from benchmarks.inputs import TEXT, Work, random_topk
from benchmarks.record import BenchmarkResult
from saebench.progress import Progress

K = 32
WEIGHT_BYTES = 4

Measurement = dict[str, Any]


def measure(
    work: Work, d_in: int, d_sae: int, factors: Mapping[str, Sequence[int]], device: str, dtype: str, progress: Progress
) -> BenchmarkResult:
    """Measure time and peak memory at multiples of a base, one axis after the other.

    Args:
        work: The work of the base.
        d_in: The width of the SAEs' input.
        d_sae: The number of latents of the base's only SAE.
        factors: The multiples along each of the axes ``tokens``, ``saes`` and ``latents``. 1 is the base, which is
            measured once for each axis.
        device: The device.
        dtype: The dtype.
        progress: Receives the progress.
    """
    measurements: list[Measurement] = []
    with tempfile.TemporaryDirectory() as name:
        for axis, multiples in factors.items():
            for factor in multiples:
                at = {"tokens": 1, "saes": 1, "latents": 1} | {axis: factor}
                report = _point(work, d_in, d_sae, at, device, dtype, Path(name), f"{axis}-{factor}")
                progress.log(f"{axis} x{factor}: {report['evaluation_seconds']:.1f} s")
                measurements.append({"axis": axis, "factor": factor, **report})
    settings = asdict(work) | {"text": TEXT, "d_in": d_in, "d_sae": d_sae, "k": K, "dtype": dtype, "saes": 1}
    return BenchmarkResult.now("growth", settings, measurements, ratios(measurements), device=device)


def _point(
    work: Work, d_in: int, d_sae: int, at: dict[str, int], device: str, dtype: str, folder: Path, name: str
) -> Measurement:
    scaled = replace(work, sequences=work.sequences * at["tokens"])
    width = d_sae * at["latents"]
    with tempfile.TemporaryDirectory(dir=folder) as saes:
        made = [
            random_topk(Path(saes) / f"{n}", d_in=d_in, d_sae=width, k=K, hook=work.hook, model=work.model, seed=n)
            for n in range(at["saes"])
        ]
        report = run_child(
            "benchmarks.ours",
            {
                "saes": [f"sae_lens:{path}" for path in made],
                "model": scaled.model,
                "text": TEXT,
                "sequences": scaled.sequences,
                "context_length": scaled.context_length,
                "dtype": dtype,
                "device": device,
                "out": str(folder / name),
            },
        )
    del report["metrics"]
    above = report["peak"] - report["resident_after_load"] if report["peak"] else None
    sizes = {"tokens": scaled.tokens, "saes": at["saes"], "latents": width}
    return report | {"size": sizes, "above_model": above, "sae_weights": 2 * width * d_in * WEIGHT_BYTES}


def ratios(measurements: Sequence[Measurement]) -> dict[str, float]:
    """Return for each axis the exponents of the evaluation's seconds, and the largest memory over that of the base.

    Nothing is subtracted from the seconds, so they include the text, its tokens and the intervals. The memory is that
    above the model. Along ``latents``, the weights of one SAE are subtracted from it, because they grow by definition.
    """
    values: dict[str, float] = {}
    for axis in dict.fromkeys(m["axis"] for m in measurements):
        rows = sorted((m for m in measurements if m["axis"] == axis), key=lambda m: m["factor"])
        sizes, seconds = [m["factor"] for m in rows], [m["evaluation_seconds"] for m in rows]
        if len(rows) > 1:
            values[f"exponent/{axis}"] = exponent(sizes, seconds)
            values[f"last_doubling/{axis}"] = last_doubling(sizes, seconds)
        if all(m["above_model"] for m in rows):
            above = [m["above_model"] - (m["sae_weights"] if axis == "latents" else 0) for m in rows]
            values[f"memory/{axis}"] = max(above[1:], default=above[0]) / above[0]
            values[f"total_memory/{axis}"] = max(m["peak"] for m in rows) / rows[0]["peak"]
    return values
