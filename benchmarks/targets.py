"""The figures to reach, and how each of them is read from the results."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from benchmarks.record import BenchmarkResult

Results = Mapping[str, BenchmarkResult]


@dataclass(frozen=True)
class Target:
    """A bound on a figure."""

    label: str
    bound: float
    at_least: bool  # whether the bound is a lower one
    figure: Callable[[Results], float | None]  # returns None if the figure was not measured

    def reached(self, results: Results) -> bool | None:
        """Return whether the bound is reached, or None if the figure was not measured."""
        value = self.figure(results)
        if value is None:
            return None
        return value >= self.bound if self.at_least else value <= self.bound


def _ratio(result: str, *keys: str) -> Callable[[Results], float | None]:
    """Return a function that reads the first of ``keys`` that was measured."""

    def figure(results: Results) -> float | None:
        ratios = results[result].ratios if result in results else {}
        return next((ratios[key] for key in keys if key in ratios), None)

    return figure


def _default_dtype(number: int) -> Callable[[Results], float | None]:
    """Return a function that reads the comparison of default dtypes, which may be that of float32."""
    return _ratio("peer", f"default/evaluation/{number}", f"float32/evaluation/{number}")


def above_model_gb(results: Results) -> float | None:
    """Return the most memory above the language model, in GB, of saebench's runs on SAEs with 2,048 latents."""
    peer = results["peer"].measurements if "peer" in results else []
    growth = results["growth"].measurements if "growth" in results else []
    sizes = [m["peak"] - m["resident_after_load"] for m in peer if m["side"] == "ours" and m["peak"]]
    sizes += [m["above_model"] for m in growth if m["axis"] != "latents" and m["above_model"]]
    return max(sizes) / 1e9 if sizes else None


TARGETS = (
    Target("`core`, one SAE, float32: SAEBench's time / ours", 2.5, True, _ratio("peer", "float32/evaluation/1")),
    Target("`core`, ten SAEs, float32: SAEBench's time / ours", 6, True, _ratio("peer", "float32/evaluation/10")),
    Target("`core`, one SAE, default dtypes", 8, True, _default_dtype(1)),
    Target("`core`, ten SAEs, default dtypes", 20, True, _default_dtype(10)),
    Target(
        "`sparse_probing`, three SAEs, without the passes: sae-probes' time / ours",
        5,
        True,
        _ratio("probing", "probes"),
    ),
    Target("`sparse_probing`, three SAEs, passes included", 5, True, _ratio("probing", "both")),
    Target("share of the floor, one SAE", 0.7, True, _ratio("floor", "share/1")),
    Target("share of the floor, ten SAEs", 0.7, True, _ratio("floor", "share/10")),
    Target("time against tokens, exponent", 1.05, False, _ratio("growth", "exponent/tokens")),
    Target("time against SAEs, exponent", 1.05, False, _ratio("growth", "exponent/saes")),
    Target("memory above the model, 16 times the tokens / the base", 1.1, False, _ratio("growth", "memory/tokens")),
    Target("memory above the model, 2,048 latents, GB", 1.5, False, above_model_gb),
)
