"""Small SVG figures of the results, which hold the hash of the data that they show."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.record import BenchmarkResult
from benchmarks.targets import Results


def data_hash(result: BenchmarkResult) -> str:
    """Return the sha256 of the measurements, which is written into the figure's file."""
    return hashlib.sha256(json.dumps(result.measurements, sort_keys=True).encode()).hexdigest()


def is_current(path: Path, result: BenchmarkResult) -> bool:
    """Return whether the figure at ``path`` was drawn from ``result``."""
    return path.is_file() and data_hash(result) in path.read_text(encoding="utf-8")


def draw(results: Results, folder: Path) -> list[Path]:
    """Draw the figures of the results that exist into ``folder``, and return their paths."""
    from matplotlib import rc_context

    folder.mkdir(parents=True, exist_ok=True)
    written = []
    settings: dict[Any, Any] = {"svg.hashsalt": "saebench", "svg.fonttype": "none", "font.size": 9, "axes.grid": True}
    for name, figure in FIGURES.items():
        if name in results:
            path = folder / f"{name}.svg"
            with rc_context(settings):
                drawn = figure(results[name])
                drawn.savefig(path, metadata={"Date": None, "Description": data_hash(results[name])})
            written.append(path)
    return written


def _peer(result: BenchmarkResult) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.5, 3), layout="constrained")
    axes = figure.subplots()
    rows = [m for m in result.measurements if m["dtype_choice"] == "float32"]
    counts = sorted({m["saes"] for m in rows})
    for side, label in (("peer", "SAEBench 0.6.0"), ("ours", "saebench")):
        seconds = [
            median(m["evaluation_seconds"] for m in rows if (m["side"], m["saes"]) == (side, count)) for count in counts
        ]
        axes.plot(counts, seconds, marker="o", label=label)
    axes.set(xlabel="SAEs", ylabel="evaluation, seconds", ylim=(0, None), xticks=counts)
    axes.legend()
    return figure


def _growth(result: BenchmarkResult) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 3), layout="constrained")
    time, memory = figure.subplots(1, 2)
    for axis in dict.fromkeys(m["axis"] for m in result.measurements):
        rows = sorted((m for m in result.measurements if m["axis"] == axis), key=lambda m: m["factor"])
        factors = [m["factor"] for m in rows]
        time.plot(factors, [m["evaluation_seconds"] for m in rows], marker="o", label=axis)
        if all(m["above_model"] for m in rows):
            memory.plot(factors, [m["above_model"] / 1e9 for m in rows], marker="o", label=axis)
    largest = max(m["factor"] for m in result.measurements)
    base = min(m["evaluation_seconds"] for m in result.measurements)
    time.plot([1, largest], [base, base * largest], color="grey", linestyle=":", label="linear")
    time.set(xscale="log", yscale="log", xlabel="times the base", ylabel="evaluation, seconds")
    memory.set(xscale="log", xlabel="times the base", ylabel="memory above the model, GB", ylim=(0, None))
    time.legend()
    return figure


FIGURES: dict[str, Callable[[BenchmarkResult], Any]] = {"peer": _peer, "growth": _growth}
