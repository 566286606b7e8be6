"""Sparse probing against the runner of the sae-probes package, measured alternately.

The model, hook, SAEs and k are the same. Both sides get the same rows of the same datasets as files, and each draws
training and test sets of the same sizes from them with its own generator. ``lm`` is the time of the language model's
passes, ``probes`` that of everything else (SAE encoding, ranking, fitting, scoring, writing), and ``both`` their sum.
Importing, and loading the model, are left out.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.arithmetic import ratio_of_medians
from benchmarks.child import run_child
from benchmarks.inputs import SEED, hub_cache, sae_folders
from benchmarks.peer import PEER_MODEL, PEER_REPOSITORY
from benchmarks.record import BenchmarkResult
from saebench.data.labelled import Labelled, load_labelled
from saebench.data.probes import ASSET
from saebench.errors import DataError, UsageError
from saebench.progress import Progress
from saebench.stats.rng import generator

# Twelve binary tasks of several kinds with short texts.
DATASETS = (
    "5_hist_fig_ismale",
    "21_headline_istrump",
    "36_sciq_tf",
    "87_glue_cola",
    "92_glue_sst2",
    "155_athlete_sport_basketball",
    "96_spam_is",
    "105_click_bait",
    "113_movie_sent",
    "123_world_country_United_Kingdom",
    "126_art_type_book",
    "149_twt_emotion_happiness",
)
PHASES = ("lm", "probes", "both")
_APART = 100  # the rows that sae-probes keeps for testing, one of which it never uses

Measurement = dict[str, Any]


@dataclass(frozen=True)
class ProbingWork:
    """The datasets and SAEs that both sides probe. Sae-probes trains on all but 100 of a dataset's rows."""

    model: str
    hook: str
    datasets: tuple[str, ...] = DATASETS
    rows: int = 500  # of each dataset, half of them in each class
    ks: tuple[int, ...] = (1, 2, 5, 16, 64, 128)
    saes: int = 3
    context_length: int = 1024

    @property
    def train(self) -> int:
        """The number of training examples."""
        return self.rows - _APART

    @property
    def test(self) -> int:
        """The number of test examples."""
        return _APART - 1


def compare(work: ProbingWork, repeats: int, python: Path, progress: Progress) -> BenchmarkResult:
    """Measure both sides alternately.

    Args:
        work: What is probed.
        repeats: How often each side is measured.
        python: The Python of the environment of sae-probes.
        progress: Receives the progress.

    Raises:
        UsageError: The environment of sae-probes is missing.
        DataError: A dataset has too few rows.
        RuntimeError: A side fails.
    """
    if not python.is_file():
        raise UsageError(f"{python} does not exist; make bench builds the environment of sae-probes.")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = write_datasets(work, folder / "data")
        saes = sae_folders(work.saes, folder / "saes")
        home = hub_cache(work.model, PEER_REPOSITORY, folder / "huggingface")
        versions: dict[str, str] = {}
        measurements: list[Measurement] = []
        for repeat in range(repeats):
            for side in ("peer", "ours") if repeat % 2 == 0 else ("ours", "peer"):
                shared = {"saes": [str(sae) for sae in saes], "ks": work.ks, "out": str(folder / f"{side}-{repeat}")}
                if side == "peer":
                    report = run_child(
                        "benchmarks.probing_peer",
                        shared | {"model": PEER_MODEL, "hook": work.hook, "data": str(folder / "data")},
                        python=python,
                        environment={"HF_HOME": str(home)},
                    )
                    versions = {f"sae-probes' {name}": text for name, text in report.pop("versions").items()}
                else:
                    sizes = {"train": work.train, "test": work.test, "context_length": work.context_length}
                    report = run_child(
                        "benchmarks.probing_ours",
                        shared | sizes | {"model": work.model, "files": [str(file) for file in files]},
                    )
                progress.log(f"{side}: {report['lm_seconds']:.1f} s LM, {report['probes_seconds']:.1f} s probes")
                measurements.append({"side": side, "repeat": repeat, **report})
    settings = asdict(work) | {"train": work.train, "test": work.test, "dtype": "float32", "penalty": "l1"}
    return BenchmarkResult.now("probing", settings, measurements, ratios(measurements), versions=versions)


def ratios(measurements: Sequence[Measurement]) -> dict[str, float]:
    """Return for each phase the seconds of sae-probes over saebench's, and under ``<phase>/cpu`` the processor time."""
    values = {}
    for phase in PHASES:
        for key, kind in ((phase, "seconds"), (f"{phase}/cpu", "cpu_seconds")):
            values[key] = ratio_of_medians(*(seconds(measurements, side, phase, kind) for side in ("peer", "ours")))
    return values


def seconds(measurements: Sequence[Measurement], side: str, phase: str, kind: str) -> list[float]:
    """Return the ``seconds`` or ``cpu_seconds`` (the kind) of a phase in each measurement of a side."""
    names = PHASES[:2] if phase == "both" else (phase,)
    return [sum(row[f"{name}_{kind}"] for name in names) for row in measurements if row["side"] == side]


def write_datasets(work: ProbingWork, folder: Path) -> list[Path]:
    """Write the rows as ``<name>.csv`` for saebench, and as ``cleaned_data/<name>.csv.zst`` for sae-probes.

    Returns:
        The files for saebench.

    Raises:
        DataError: A dataset has too few rows.
    """
    import pandas as pd

    (folder / "cleaned_data").mkdir(parents=True)
    files = []
    for name in work.datasets:
        data = load_labelled(f"asset:{ASSET}/{name}")
        rows = _balanced(data, work.rows)
        frame = pd.DataFrame({"prompt": [data.texts[row] for row in rows], "target": data.labels[rows]})
        files.append(folder / f"{name}.csv")
        frame.to_csv(files[-1], index=False)
        frame.to_csv(folder / "cleaned_data" / f"{name}.csv.zst", index=False, compression="zstd")
    return files


def _balanced(data: Labelled, rows: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Draw rows, half of them of each class, in random order. Texts that pandas would read as missing are left out."""
    missing = {"NA", "N/A", "NaN", "nan", "null", "NULL", "None", "n/a", "<NA>"}
    usable = np.array([text.strip() not in missing for text in data.texts])
    draw = generator(SEED, f"probing:{data.ref}")
    sides = [draw.permutation(np.flatnonzero(usable & (data.labels == label)))[: rows // 2] for label in (0, 1)]
    if len(data.classes) != 2 or min(map(len, sides)) < rows // 2:
        raise DataError(f"{data.ref!r} has fewer than {rows // 2} examples of one of two classes; use fewer rows.")
    return draw.permutation(np.concatenate(sides))
