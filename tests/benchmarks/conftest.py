"""Made-up results of every benchmark, with figures that are easy to check by hand."""

from datetime import UTC, datetime

import pytest

from benchmarks import floor, generation, growth, peer, probing
from benchmarks.record import BenchmarkResult

GB = 10**9


def make_result(name, measurements, ratios, **settings):
    return BenchmarkResult(
        name=name,
        created=datetime(2026, 11, 21, tzinfo=UTC),
        hardware={
            "device": "cpu (some CPU)",
            "cores": 2,
            "threads": 2,
            "memory_gb": 24.0,
            "vector_instructions": "AVX2",
        },
        versions={"saebench": "0.1.0", "torch": "2.13.0"},
        settings=settings,
        measurements=measurements,
        ratios=ratios,
    )


def one_side(side, saes, seconds, repeat=0, dtype="float32", above=GB):
    metrics = {"ce_loss_with_sae": 5.0, "explained_variance": 1.0001} if side == "peer" else {"ce_sae": 4.9}
    return {
        "side": side,
        "dtype_choice": dtype,
        "saes": saes,
        "repeat": repeat,
        "evaluation_seconds": seconds,
        "whole_seconds": seconds + 10,
        "resident_after_load": 2 * GB,
        "peak": 2 * GB + above,
        "metrics": {"topk-k32-s0": metrics},
    }


def peer_rows():
    rows = []
    for repeat, (theirs, ours) in enumerate([(50, 20), (60, 19), (90, 21)]):  # medians 60 and 20
        rows += [one_side("peer", 1, theirs, repeat, above=8 * GB), one_side("ours", 1, ours, repeat)]
    return [*rows, one_side("peer", 10, 500, above=8 * GB), one_side("ours", 10, 50)]


def floor_rows():
    return [{"side": side, "saes": 1, "repeat": 0, "seconds": s} for side, s in (("floor", 6.0), ("ours", 8.0))]


def growth_row(axis, factor, seconds, above):
    return {
        "axis": axis,
        "factor": factor,
        "evaluation_seconds": seconds,
        "resident_after_load": GB,
        "peak": GB + above,
        "above_model": above,
        "sae_weights": GB // 10 * (factor if axis == "latents" else 1),
        "size": {axis: 2048 * factor},
    }


def growth_rows():
    tokens = [growth_row("tokens", factor, 3.0 * factor, GB // 2) for factor in (1, 2, 4)]
    return tokens + [growth_row("latents", factor, 5.0, GB // 2 + GB // 10 * factor) for factor in (1, 2)]


def probing_rows():
    rows = []
    for side, lm, probes in (("peer", 60.0, 40.0), ("ours", 15.0, 5.0)):
        auc = {"topk-k32-s0": {"1": 0.7, "16": 0.8}, "topk-k32-s1": {"1": 0.5, "16": 0.9}}
        times = {"lm_seconds": lm, "probes_seconds": probes, "lm_cpu_seconds": lm, "probes_cpu_seconds": 2 * probes}
        rows.append({"side": side, "repeat": 0, "auc": auc, **times})
    return rows


def generation_rows():
    seconds = {"transformers": [10.0, 12.0, 30.0], "ours": [4.0, 3.0, 3.0]}  # medians 12 and 3
    return [
        {"side": side, "settings": 6, "way": "greedy", "repeat": repeat, "seconds": each}
        for side, runs in seconds.items()
        for repeat, each in enumerate(runs)
    ]


@pytest.fixture
def results():
    """Results of all parts but the GPU's, by name."""
    rows = {
        "peer": (peer, peer_rows()),
        "floor": (floor, floor_rows()),
        "growth": (growth, growth_rows()),
        "probing": (probing, probing_rows()),
        "generation": (generation, generation_rows()),
    }
    return {
        name: make_result(name, measured, module.ratios(measured), ks=[1, 16], equal_greedy_texts=0.75)
        for name, (module, measured) in rows.items()
    }
