"""The tables of docs/performance.md, made from result files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from statistics import median
from typing import Any

from tabulate import tabulate

from benchmarks.probing import PHASES, seconds
from benchmarks.record import BenchmarkResult
from benchmarks.targets import TARGETS, Results

_PHASES = {"lm": "passes of the language model", "probes": "encoding, ranking, fitting", "both": "together"}
# SAEBench's name of a metric, and saebench's name of the same metric.
SAME_METRIC = {
    "ce_loss_without_sae": "ce_clean",
    "ce_loss_with_sae": "ce_sae",
    "ce_loss_with_ablation": "ce_zero",
    "ce_loss_score": "ce_recovered_zero",
    "kl_div_with_sae": "kl_sae",
    "kl_div_with_ablation": "kl_zero",
    "l0": "l0",
    "l1": "l1",
    "l2_ratio": "l2_ratio",
    "cossim": "cosine",
    "relative_reconstruction_bias": "reconstruction_bias",
    "explained_variance": "explained_variance",
    "explained_variance_legacy": "explained_variance",
    "average_max_decoder_cosine_sim": "decoder_max_cosine",
    "average_max_encoder_cosine_sim": "encoder_max_cosine",
}


def targets(results: Results) -> str:
    """Return the table of targets, and whether they are reached."""
    rows = []
    for target in TARGETS:
        value, reached = target.figure(results), target.reached(results)
        sign = "≥" if target.at_least else "≤"
        verdict = "not measured" if reached is None else "reached" if reached else "**not reached**"
        rows.append([target.label, f"{sign} {target.bound:g}", "" if value is None else _three(value), verdict])
    return _markdown(rows, ["figure", "target", "measured", ""])


def machine(results: Results) -> str:
    """Return the table of machines, and the versions of packages."""
    rows = []
    for name, result in results.items():
        hardware = result.hardware
        machine = (
            f"{hardware['device']}, {hardware['cores']} cores, {hardware['threads']} threads, "
            f"{hardware['memory_gb']:g} GB, {hardware['vector_instructions']}"
        )
        rows.append([name, f"{result.created:%Y-%m-%d}", machine, result.settings.get("dtype", "see above")])
    by_package: dict[str, dict[str, None]] = {}
    for result in results.values():
        for package, version in result.versions.items():
            by_package.setdefault(package, {})[version] = None
    versions = ", ".join(f"{package} {' and '.join(seen)}" for package, seen in by_package.items())
    return _markdown(rows, ["result", "date", "machine", "dtype"]) + f"\n\nVersions: {versions}."


def peer(results: Results) -> str:
    """Return the tables of time and memory against SAEBench."""
    result = results["peer"]
    rows = []
    for dtype, number in dict.fromkeys((m["dtype_choice"], m["saes"]) for m in result.measurements):
        chosen = [m for m in result.measurements if (m["dtype_choice"], m["saes"]) == (dtype, number)]
        for phase in ("evaluation", "whole"):
            theirs, ours = (_median(chosen, side, f"{phase}_seconds") for side in ("peer", "ours"))
            key = f"{dtype}/{phase}/{number}"
            rows.append([number, dtype, phase, len(chosen) // 2, theirs, ours, result.ratios[key]])
    headers = ["SAEs", "dtype", "timed", "runs each", "SAEBench, s", "saebench, s", "ratio"]
    return _markdown(_rounded(rows), headers) + "\n\n" + _peer_memory(result)


def _peer_memory(result: BenchmarkResult) -> str:
    rows = []
    for number in dict.fromkeys(m["saes"] for m in result.measurements):
        row: list[Any] = [number]
        for side in ("peer", "ours"):
            chosen = [m for m in result.measurements if (m["side"], m["saes"]) == (side, number) and m["peak"]]
            if chosen:
                row += [
                    max(m["peak"] for m in chosen) / 1e9,
                    max(m["peak"] - m["resident_after_load"] for m in chosen) / 1e9,
                ]
            else:
                row += ["", ""]
        rows.append(row)
    headers = ["SAEs", "SAEBench, peak GB", "above the model", "saebench, peak GB", "above the model"]
    return _markdown(_rounded(rows), headers)


def metrics(results: Results) -> str:
    """Return the table of both sides' metrics for the first SAE of the first float32 round."""
    by_side = {
        m["side"]: m["metrics"] for m in reversed(results["peer"].measurements) if m["dtype_choice"] == "float32"
    }
    theirs, ours = (next(iter(by_side[side].values())) for side in ("peer", "ours"))
    rows = [
        [f"`{name}`", theirs[name], f"`{same}`", ours[same]]
        for name, same in SAME_METRIC.items()
        if name in theirs and same in ours
    ]
    return _markdown(_rounded(rows, digits=5), ["SAEBench", "value", "saebench", "value"])


def floor(results: Results) -> str:
    """Return the table of the time against the floor."""
    result = results["floor"]
    rows = []
    for number in dict.fromkeys(m["saes"] for m in result.measurements):
        chosen = [m for m in result.measurements if m["saes"] == number]
        bare, ours = (_median(chosen, side, "seconds") for side in ("floor", "ours"))
        rows.append([number, len(chosen) // 2, bare, ours, result.ratios[f"share/{number}"]])
    return _markdown(_rounded(rows), ["SAEs", "runs each", "floor, s", "saebench, s", "share"])


def growth(results: Results) -> str:
    """Return the tables of growth: the exponents, and the measured points."""
    result = results["growth"]
    rows = []
    for m in result.measurements:
        above = "" if m["above_model"] is None else m["above_model"] / 1e9
        rows.append([m["axis"], f"x{m['factor']}", f"{m['size'][m['axis']]:,}", m["evaluation_seconds"], above])
    points = _markdown(_rounded(rows), ["along", "", "size", "evaluation, s", "memory above the model, GB"])
    axes = dict.fromkeys(m["axis"] for m in result.measurements)
    summary = [
        [
            axis,
            *(
                result.ratios.get(f"{key}/{axis}", "")
                for key in ("exponent", "last_doubling", "memory", "total_memory")
            ),
        ]
        for axis in axes
    ]
    headers = ["along", "exponent", "of the last doubling", "memory above the model, largest / base", "whole process"]
    return _markdown(_rounded(summary), headers) + "\n\n" + points


def probing(results: Results) -> str:
    """Return the tables of sparse probing against sae-probes: the time, and the scores."""
    result = results["probing"]
    rows = []
    for phase in PHASES:
        both = [median(seconds(result.measurements, side, phase, "seconds")) for side in ("peer", "ours")]
        rows.append([_PHASES[phase], *both, result.ratios[phase], result.ratios[f"{phase}/cpu"]])
    scores = {m["side"]: m["auc"] for m in reversed(result.measurements)}
    ks = [str(k) for k in result.settings["ks"]]
    means = [
        [label, *(sum(auc[k] for auc in scores[side].values()) / len(scores[side]) for k in ks)]
        for side, label in (("peer", "sae-probes"), ("ours", "saebench"))
    ]
    times = _markdown(_rounded(rows), ["", "sae-probes, s", "saebench, s", "ratio", "ratio of CPU time"])
    return f"{times}\n\n{_markdown(_rounded(means), ['mean test AUC', *(f'k = {k}' for k in ks)])}"


def generation(results: Results) -> str:
    """Return the table of generation against one call for each setting."""
    result = results["generation"]
    rows = []
    for way, number in dict.fromkeys((m["way"], m["settings"]) for m in result.measurements):
        chosen = [m for m in result.measurements if (m["way"], m["settings"]) == (way, number)]
        theirs, ours = (_median(chosen, side, "seconds") for side in ("transformers", "ours"))
        rows.append([number, way, len(chosen) // 2, theirs, ours, result.ratios[f"{way}/{number}"]])
    headers = ["settings", "continuations", "runs each", "one call per setting, s", "saebench, s", "ratio"]
    equal = f"Share of greedy texts that are the same on both sides: {result.settings['equal_greedy_texts']:.1%}."
    return _markdown(_rounded(rows), headers) + "\n\n" + equal


def gpu(results: Results) -> str:
    """Return the tables of the GPU: the speed, and the operations that take most time."""
    result = results["gpu"]
    rows = []
    for kind, width, number in dict.fromkeys((m["kind"], m["d_sae"], m["saes"]) for m in result.measurements):
        key = f"{kind}/{width}/{number}"
        keys = ("tokens_per_second", "share", "above_model_gb")
        rows.append([kind, f"{width:,}", number, *(result.ratios.get(f"{name}/{key}", "") for name in keys)])
    headers = ["SAE", "latents", "SAEs", "tokens / s", "share of the floor", "memory above the model, GB"]
    profile = [[f"`{row['operation']}`", f"{row['share']:.1%}"] for row in result.settings["profile"]]
    return _markdown(_rounded(rows), headers) + "\n\n" + _markdown(profile, ["operation, one SAE", "share of the time"])


# For each block of the page, the result that it needs and the function that renders it.
BLOCKS: dict[str, tuple[str | None, Callable[[Results], str]]] = {
    "targets": (None, targets),
    "machine": (None, machine),
    "peer": ("peer", peer),
    "metrics": ("peer", metrics),
    "floor": ("floor", floor),
    "growth": ("growth", growth),
    "probing": ("probing", probing),
    "generation": ("generation", generation),
    "gpu": ("gpu", gpu),
}


def block(name: str, results: Results) -> str:
    """Return the text of a block. Raises KeyError if there is no such block."""
    needs, renderer = BLOCKS[name]
    if not results or (needs and needs not in results):
        return "*Not measured yet.*"
    return renderer(results)


def _median(rows: Iterable[dict[str, Any]], side: str, key: str) -> float:
    return median(row[key] for row in rows if row["side"] == side)


def _rounded(rows: Sequence[Sequence[Any]], digits: int = 3) -> list[list[Any]]:
    return [[_three(value, digits) if isinstance(value, float) else value for value in row] for row in rows]


def _three(value: float, digits: int = 3) -> str:
    return f"{value:,.0f}" if abs(value) >= 10**digits else f"{value:.{digits}g}"


def _markdown(rows: Sequence[Sequence[Any]], headers: Sequence[str]) -> str:
    return str(tabulate(rows, headers, tablefmt="pipe", disable_numparse=True))
