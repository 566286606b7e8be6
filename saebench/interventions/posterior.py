"""The probability of a concept given the activation of one latent.

By Bayes' rule, P(c | f_j) is proportional to P(c) p(f_j | c). The density p(f_j | c) is a Gaussian, for sparse latents
with a point mass at zero. arXiv 2508.15094 does not publish its estimator; this one is saebench's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from saebench.errors import DataError, UsageError

# "zero_inflated" is for sparse latents: zero has a probability of its own, and other activations are Gaussian.
# "gaussian" is for neurons: all activations are Gaussian, including zeros.
Density = Literal["zero_inflated", "gaussian"]

_NARROWEST = 1e-3  # the least spread in a class, as a share of the latent's spread over all classes
_BLOCK = 2**22  # the most numbers, tokens x latents x classes, that are held at a time


@dataclass(frozen=True)
class Posterior:
    """P(concept | activation) of each latent, for one concept among several classes."""

    density: Density
    concept: int
    priors: Float[Tensor, " classes"]
    firing: Float[Tensor, "latents classes"]  # P(activation != 0 | class); 1 for "gaussian"
    mean: Float[Tensor, "latents classes"]
    sd: Float[Tensor, "latents classes"]

    @classmethod
    def fit(
        cls,
        f: Float[Tensor, "examples latents"],
        labels: Int[Tensor, " examples"],
        concept: int,
        *,
        n_classes: int,
        density: Density = "zero_inflated",
        priors: Float[Tensor, " classes"] | None = None,
    ) -> Posterior:
        """Fit the densities to labelled activations.

        If a latent fires fewer than twice in a class, its mean and spread over all classes are used. One firing and one
        silent example are added to the counts of each class, so that no probability of firing is 0 or 1.

        Args:
            f: The activations.
            labels: The class of each example.
            concept: The number of the concept's class.
            n_classes: The number of classes.
            density: The kind of density.
            priors: The prior of each class up to a factor; by default they are uniform.

        Raises:
            DataError: A class has no example.
            UsageError: The density is unknown.
        """
        if density not in ("zero_inflated", "gaussian"):
            raise UsageError(f"density must be zero_inflated or gaussian, not {density!r}.")
        member = torch.nn.functional.one_hot(labels.long(), n_classes).double()  # [examples, classes]
        count = member.sum(0)
        if not bool((count > 0).all()) or not 0 <= concept < n_classes:
            raise DataError(f"The posterior of a concept needs training examples of each of the {n_classes} concepts.")
        f = f.double()
        counts = f != 0 if density == "zero_inflated" else torch.ones_like(f, dtype=torch.bool)
        active = counts.double()
        n = active.T @ member  # [latents, classes]
        pooled_mean, pooled_sd = _moments(f, active, torch.ones_like(member[:, :1]))
        mean, sd = _moments(f, active, member)
        few = n < 2
        narrowest = (pooled_sd * _NARROWEST).clamp(min=torch.finfo(torch.float32).tiny)
        mean = torch.where(few, pooled_mean, mean)
        sd = torch.maximum(torch.where(few, pooled_sd, sd), narrowest)
        firing = (n + 1) / (count + 2) if density == "zero_inflated" else torch.ones_like(n)
        priors = torch.full((n_classes,), 1 / n_classes) if priors is None else priors / priors.sum()
        return cls(density, concept, priors.double(), firing, mean, sd)

    def __call__(self, f: Float[Tensor, "tokens latents"]) -> Float[Tensor, "tokens latents"]:
        """Return P(concept | f_j) of each latent at each token."""
        rows = max(1, _BLOCK // max(1, self.mean.numel()))
        return torch.cat([self._of(block) for block in f.split(rows)]) if len(f) else f

    def describe(self) -> dict[str, Any]:
        """Return all parameters, ready for JSON."""
        tables = {name: getattr(self, name).tolist() for name in ("priors", "firing", "mean", "sd")}
        return {"density": self.density, "concept": self.concept, **tables}

    def _of(self, f: Tensor) -> Tensor:
        firing, mean, sd, priors = (table.to(f.device) for table in (self.firing, self.mean, self.sd, self.priors))
        wide = f.double()[..., None]  # [tokens, latents, 1]
        log_density = firing.log() - 0.5 * ((wide - mean) / sd).square() - sd.log() - 0.5 * math.log(2 * math.pi)
        if self.density == "zero_inflated":
            log_density = torch.where(wide == 0, (1 - firing).log(), log_density)
        return torch.softmax(log_density + priors.log(), dim=-1)[..., self.concept].to(f.dtype)


def _moments(f: Tensor, active: Tensor, member: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean and the standard deviation (n - 1) in each class, ``[latents, classes]``; 0 where undefined.

    Only activations that are ``active`` count.
    """
    n = active.T @ member
    mean = (f * active).T @ member / n.clamp(min=1)
    # Activations are centred before they are squared, because they may lie far from zero and close together.
    variance = torch.stack(
        [((f - mean[:, c]).square() * active).T @ member[:, c] for c in range(member.shape[1])], dim=1
    )
    return mean, (variance / (n - 1).clamp(min=1)).sqrt()
