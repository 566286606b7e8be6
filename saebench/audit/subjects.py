"""The SAEs of an audit: on the bundled language model, and on a planted one whose features are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

# Settings of tasks on the bundled language model that leave out what no audited metric needs.
LEAN: dict[str, dict[str, Any]] = {
    "unlearning": {"methods": ["clamp", "dsg"], "questions": 2},
    "detox": {"methods": ["random_latents"], "test_prompts": 2, "sequences": 2, "utility_limit": 0},
}
_TOPK = "zoo:topk-k32-s0"
_PERMUTED = f"baseline:permuted-decoder({_TOPK})"


@dataclass(frozen=True)
class Subjects:
    """SAEs, or groups of SAEs, by the part that they play. All are references, a group as ``NAME=REF,REF``.

    Attributes:
        trained: What boards are for.
        controls: What training must beat.
        permuted: The control that is ``trained[0]`` with its decoder rows in another order.
        adversaries: Degenerate SAEs.
        dense: Those adversaries that fire about as many latents as there are dimensions, which boards refuse to rank.
        rewritten: Copies of ``trained[0]`` that compute the same function, by what was rewritten.
        known: SAEs of known quality.
        oracle: The one of them that holds the true features; "" if there is none.
        steps: SAEs along one training, with the number of steps.
    """

    trained: tuple[str, ...]
    controls: tuple[str, ...]
    permuted: str = ""
    adversaries: tuple[str, ...] = ()
    dense: tuple[str, ...] = ()
    rewritten: dict[str, str] = field(default_factory=dict)
    known: tuple[str, ...] = ()
    oracle: str = ""
    steps: dict[str, int] = field(default_factory=dict)

    def everything(self) -> tuple[str, ...]:
        """All of them, each once."""
        parts = (
            self.trained,
            self.controls,
            self.adversaries,
            self.dense,
            self.rewritten.values(),
            self.known,
            self.steps,
        )
        return tuple(dict.fromkeys(reference for part in parts for reference in part))


def cheats(sae: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the adversaries that are made from an SAE or from activations, and those of them that are dense."""
    sparse = (f"adversary:amplified({sae})", f"adversary:one-direction({sae})", "adversary:norm", "adversary:empty")
    return (*sparse, "adversary:memorised"), ("adversary:identity", "adversary:rotated", "adversary:always-on")


def rewritten(sae: str) -> dict[str, str]:
    """Return copies of an SAE that compute the same function."""
    return {"another order of latents": f"adversary:reordered({sae})", "other units": f"adversary:rescaled({sae})"}


def bundled() -> Subjects:
    """Return SAEs of the bundled language model."""
    adversaries, dense = cheats(_TOPK)
    return Subjects(
        trained=(_TOPK, "zoo:batchtopk-k32-s0", "zoo:topk-k64-s0"),
        controls=(
            "baseline:random?d_sae=2048&l0=32",
            "zoo:frozen-topk-k32-s0",
            _PERMUTED,
        ),
        permuted=_PERMUTED,
        # The others are tried on the planted model, where they cost a hundredth of this.
        adversaries=adversaries[:2],
        dense=dense[2:],
    )


def canonical(references: Sequence[str]) -> tuple[str, ...]:
    """Return references as records write them."""
    from saebench.sae.reference import parse_sae_ref

    return tuple(str(parse_sae_ref(reference)) for reference in references)


def group(name: str, members: Sequence[str]) -> str:
    """Return the reference of a group of SAEs, as records write it."""
    from saebench.sae.group_ref import parse_sae_group, written_in_group

    return str(parse_sae_group(f"{name}={','.join(map(written_in_group, members))}"))


def bundled_groups() -> Subjects:
    """Return groups of seeds of SAEs of the bundled language model."""
    random = tuple(f"baseline:random?d_sae=2048&l0=32&seed={seed}" for seed in range(3))
    runs = tuple(f"zoo:topk-k32-s{seed}" for seed in range(3))
    permuted = tuple(f"baseline:permuted-decoder({run})" for run in runs)
    return Subjects(
        trained=(group("topk-k32", runs),),
        controls=(group("random", random), group("permuted", permuted)),
        permuted=group("permuted", permuted),
    )
