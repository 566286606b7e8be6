"""SAEBench's core evaluation against saebench's, measured alternately.

The language model, hook, tokens, SAEs and dtype are the same. Every measurement is a process of its own. ``whole`` is
from its start to its end; ``evaluation`` leaves out importing, and loading the language model. The peer's statistics
read as many sequences as its losses, while the script that it ships reads ten times as many. Its batch size is the
default of its function.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.arithmetic import ratio_of_medians
from benchmarks.child import run_child
from benchmarks.inputs import TEXT, Work, evaluation_tokens, hub_cache, sae_folders, write_tokens
from benchmarks.record import BenchmarkResult
from saebench.errors import UsageError
from saebench.progress import Progress

PEER_MODEL, PEER_REPOSITORY = "gemma-3-270m", "google/gemma-3-270m"
PEER_BATCH = 8  # the default of SAEBench's `multiple_evals`; the 16 of its command line need twice the memory
PEER_DEFAULT_DTYPE = "float32"  # the default of its `multiple_evals` and of its command line

Measurement = dict[str, Any]


def compare(
    work: Work, counts: Sequence[int], repeats: int, python: Path, device: str, progress: Progress
) -> BenchmarkResult:
    """Measure both sides for each number of SAEs, in float32 and in their default dtypes.

    Args:
        work: What is evaluated.
        counts: The numbers of SAEs.
        repeats: How often the smallest number of SAEs is measured.
        python: The Python of the peer's environment.
        device: The device.
        progress: Receives the progress.

    Raises:
        UsageError: The work does not fit the peer's batches, or its environment is missing.
        RuntimeError: A side fails, or the peer reads other tokens.
    """
    if work.sequences % PEER_BATCH and work.sequences > PEER_BATCH:
        raise UsageError(f"The peer reads whole batches, so sequences must be a multiple of {PEER_BATCH}.")
    if not python.is_file():
        raise UsageError(f"{python} does not exist; make bench builds SAEBench's environment.")
    with tempfile.TemporaryDirectory() as name:
        runner = _Runner(work, python, device, Path(name), progress)
        measurements: list[Measurement] = []
        for number in counts:
            for repeat in range(repeats if number == min(counts) else 1):
                measurements += runner.round("float32", number, repeat)
        default = runner.default_dtype()
        if default != PEER_DEFAULT_DTYPE:
            for number in (min(counts), max(counts)):
                measurements += runner.round("default", number, 0)
        settings = asdict(work) | {
            "text": TEXT,
            "tokens_sha256": runner.batch.content_hash,
            "peer_batch": runner.batch_size,
            "our_default_dtype": default,
            "peer_default_dtype": PEER_DEFAULT_DTYPE,
        }
        return BenchmarkResult.now(
            "peer", settings, measurements, ratios(measurements), device=device, versions=runner.peer_versions
        )


def ratios(measurements: Sequence[Measurement]) -> dict[str, float]:
    """Return ``<dtype>/<phase>/<number of SAEs>``, the peer's seconds over saebench's.

    The phase ``memory`` stands for the bytes above the model. If the default dtype of both sides is float32, there is
    nothing for the dtype ``default``, because it is the same comparison.
    """
    values: dict[str, float] = {}
    for dtype, number in dict.fromkeys((m["dtype_choice"], m["saes"]) for m in measurements):
        rows = [m for m in measurements if (m["dtype_choice"], m["saes"]) == (dtype, number)]
        peer, ours = ([m for m in rows if m["side"] == side] for side in ("peer", "ours"))
        for phase in ("evaluation", "whole"):
            key = f"{phase}_seconds"
            values[f"{dtype}/{phase}/{number}"] = ratio_of_medians([m[key] for m in peer], [m[key] for m in ours])
        above = [[m["peak"] - m["resident_after_load"] for m in side if m["peak"]] for side in (peer, ours)]
        if all(above):
            values[f"{dtype}/memory/{number}"] = ratio_of_medians(*above)
    return values


class _Runner:
    """The inputs, which are written once, and the calls of both sides."""

    def __init__(self, work: Work, python: Path, device: str, folder: Path, progress: Progress) -> None:
        self.work, self.python, self.device, self.folder, self.progress = work, python, device, folder, progress
        self.batch = evaluation_tokens(work)
        self.dataset = write_tokens(self.batch, folder / "tokens")
        self.home = hub_cache(work.model, PEER_REPOSITORY, folder / "huggingface")
        self.batch_size = min(PEER_BATCH, work.sequences)
        self.peer_versions: dict[str, str] = {}
        self._runs = 0

    def default_dtype(self) -> str:
        """Return saebench's default dtype on this device."""
        from saebench.lm.load import resolve_device, resolve_dtype

        return str(resolve_dtype("auto", resolve_device(self.device))).removeprefix("torch.")

    def round(self, dtype: str, number: int, repeat: int) -> list[Measurement]:
        """Measure each side once, in even rounds the peer first."""
        folders = sae_folders(number, self.folder / "saes")
        order = [("peer", self._peer), ("ours", self._ours)]
        rows = []
        for side, call in order if repeat % 2 == 0 else reversed(order):
            report = call(dtype, folders)
            self.progress.log(f"{dtype}, {number} SAEs, {side}: {report['evaluation_seconds']:.1f} s evaluation")
            rows.append({"side": side, "dtype_choice": dtype, "saes": number, "repeat": repeat, **report})
        return rows

    def _out(self) -> str:
        self._runs += 1
        return str(self.folder / f"out-{self._runs}")

    def _peer(self, dtype: str, folders: list[Path]) -> Measurement:
        settings = {
            "saes": [str(folder) for folder in folders],
            "model": PEER_MODEL,
            "dataset": str(self.dataset),
            "context_length": self.work.context_length,
            "batches": self.work.sequences // self.batch_size,
            "batch_size": self.batch_size,
            "dtype": PEER_DEFAULT_DTYPE if dtype == "default" else dtype,
            "device": self.device,
            "out": self._out(),
        }
        report = run_child(
            "benchmarks.peer_worker", settings, python=self.python, environment={"HF_HOME": str(self.home)}
        )
        if report.pop("tokens_sha256") != self.batch.content_hash or not report.pop("same_tokens_each_time"):
            raise RuntimeError(
                "SAEBench did not read the tokens that were written for it, so the sides cannot be compared."
            )
        self.peer_versions = {f"peer {name}": text for name, text in report.pop("versions").items()}
        return report

    def _ours(self, dtype: str, folders: list[Path]) -> Measurement:
        settings = {
            "saes": [f"sae_lens:{folder}" for folder in folders],
            "model": self.work.model,
            "text": TEXT,
            "sequences": self.work.sequences,
            "context_length": self.work.context_length,
            "dtype": "auto" if dtype == "default" else dtype,
            "device": self.device,
            "out": self._out(),
        }
        return run_child("benchmarks.ours", settings)
