"""Jensen-Shannon divergences between the class-conditional distributions of many latents, corrected for their bias.

If all classes have the same size, the generalised divergence with uniform weights (arXiv 2508.15094 names the
distance; the formulas are saebench's reading)

    JSD = H(mean_c P_c) - mean_c H(P_c)        [bits, at most log2 C]

is the mutual information of class and bin. Its plug-in estimate is too high: without any signal its mean is about
(bins - 1)(C - 1) / (2 N ln 2). The mean over all relabellings of the examples is known exactly, because the count of a
class in a bin is then hypergeometric. It is removed as in the adjusted mutual information (Vinh et al. 2010),

    adjusted = (plug-in - chance) / (maximum - chance),

which is 0 on average without signal and 1 if the classes do not overlap; for some latents it is negative. This share is
what is averaged. A distance is the square root of an average, and the root comes last, because roots of noise would be
positive.
"""

from __future__ import annotations

import math
from functools import lru_cache
from itertools import combinations
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from saebench.stats.histogram import Bins

ENOUGH = 20  # a p-value is known well enough when this many labellings were at least as divergent
_TABLE_ELEMENTS = 2**22  # the most entries of a table that is held at a time
_SAME = 1e-9  # in bits times examples: statistics this close differ only by the order of their sums


class Divergences(NamedTuple):
    """Divergences of each latent, in bits, or as shares of their maximum once they are adjusted."""

    joint: Float[Tensor, " latents"]  # between all classes, at most log2 C bits
    rest: Float[Tensor, "latents classes"]  # between a class and the equal mixture of the others, at most 1 bit
    pair: Float[Tensor, " latents"]  # the mean over pairs of classes, at most 1 bit


def histogram_divergences(bins: Bins, counts: Int[Tensor, "rows classes"], per_class: int) -> Divergences:
    """Return the plug-in divergences of counts in which each class has ``per_class`` examples."""
    n_classes = counts.shape[1]
    total = per_class * n_classes
    f = _xlog2x(2 * (n_classes - 1) * per_class + total, counts.device)
    both = counts.sum(1)
    own, others = bins.per_latent(f[counts]), bins.per_latent(f[both[:, None] - counts])
    joint = math.log2(n_classes) + (own.sum(1) - bins.per_latent(f[both])) / total
    mixed = bins.per_latent(f[both[:, None] + (n_classes - 2) * counts])
    rest = _rest(own, others, mixed, per_class, n_classes)
    pairs = torch.tensor(list(combinations(range(n_classes), 2)), device=counts.device)
    merged = torch.stack([bins.per_latent(f[counts[:, a] + counts[:, b]]) for a, b in pairs.tolist()])
    return Divergences(joint, rest, 1 + (2 * own.mean(1) - merged.mean(0)) / (2 * per_class))


def histogram_chance(bins: Bins, counts: Int[Tensor, "rows classes"], per_class: int) -> Divergences:
    """Return the exact mean of `histogram_divergences` over all permutations of the labels."""
    n_classes = counts.shape[1]
    total = per_class * n_classes
    both = counts.sum(1)
    table = _expectations(n_classes, per_class, both)
    own, others, mixed, merged = bins.per_latent(table.T).unbind(1)
    f = _xlog2x(total, counts.device)
    joint = math.log2(n_classes) + (n_classes * own - bins.per_latent(f[both])) / total
    rest = _rest(own, others, mixed, per_class, n_classes)
    pair = 1 + (2 * own - merged) / (2 * per_class)
    return Divergences(joint, rest[:, None].expand(-1, n_classes), pair)


def adjusted(plug_in: Divergences, chance: Divergences, n_classes: int) -> Divergences:
    """Return the divergences as shares of their maximum, with chance at 0: (plug-in - chance) / (maximum - chance)."""
    maxima = (math.log2(n_classes), 1.0, 1.0)
    return Divergences(*((x - e) / (m - e) for x, e, m in zip(plug_in, chance, maxima, strict=True)))


def permutation_p_values(
    bins: Bins, labels: Int[Tensor, " examples"], n_classes: int, permutations: Int[Tensor, "permutations examples"]
) -> Float[Tensor, " latents"]:
    """Return the p-value of each latent's joint divergence, by sequential Monte Carlo (Besag and Clifford 1991).

    A latent is decided when ENOUGH permutations have reached its divergence: if that takes l permutations, then
    p = ENOUGH / l. If only g of all n permutations reach it, then p = (1 + g) / (1 + n). Most of the time is thus spent
    on latents that may be significant.

    Args:
        bins: The bin of each activation.
        labels: The class of each example. All classes have the same size.
        n_classes: The number of classes.
        permutations: The labels of the examples in other orders.
    """
    f = _xlog2x(len(labels), labels.device)
    p = torch.ones(bins.n_latents, dtype=torch.float64, device=labels.device)
    left = torch.arange(bins.n_latents, device=labels.device)  # the latents that were undecided when the block began
    above = torch.zeros_like(left)
    done = 0
    while done < len(permutations) and len(left) > 0:
        reached = _labelled_parts(bins, labels[None], n_classes, f)[0] - _SAME
        at_once = max(1, _TABLE_ELEMENTS // 4 // (bins.n_rows * n_classes + len(bins.row)))
        for some in permutations[done : max(2 * done, ENOUGH)].split(at_once):
            for part in _labelled_parts(bins, some, n_classes, f):
                done += 1
                above += part >= reached
                p[left] = torch.where((above == ENOUGH) & (p[left] == 1), ENOUGH / done, p[left])
        undecided = above < ENOUGH
        left, above, bins = left[undecided], above[undecided], bins.of_latents(undecided)
    p[left] = (1 + above.double()) / (1 + len(permutations))
    return p


def mass_divergences(masses: Float[Tensor, "latents classes points"]) -> Divergences:
    """Return the divergences of class-conditional distributions, which may be estimated in any way.

    Args:
        masses: The probability of each point under each class; they sum to 1 over points.
    """
    n_classes = masses.shape[1]
    p = masses.double()
    entropy = _entropy(p)
    joint = _entropy(p.mean(1)) - entropy.mean(1)
    others = (p.sum(1, keepdim=True) - p) / (n_classes - 1)
    rest = _entropy((p + others) / 2) - (entropy + _entropy(others)) / 2
    pairs = [
        _entropy((p[:, a] + p[:, b]) / 2) - (entropy[:, a] + entropy[:, b]) / 2
        for a, b in combinations(range(n_classes), 2)
    ]
    return Divergences(joint, rest, torch.stack(pairs).mean(0))


def _labelled_parts(bins: Bins, labels: Tensor, n_classes: int, f: Tensor) -> Float[Tensor, "labellings latents"]:
    """Return the part of the joint divergence that depends on the labels, in bits times examples.

    ``labels`` are ``[labellings, examples]``.
    """
    n = len(labels)
    cells = labels + n_classes * torch.arange(n, device=labels.device)[:, None]  # the labellings lie side by side
    keys = bins.row * n_classes * n + cells[:, bins.example]
    counts = torch.bincount(keys.flatten(), minlength=bins.n_rows * n_classes * n).view(bins.n_rows, n_classes * n)
    counts[bins.zero_row] = torch.bincount(labels[0], minlength=n_classes).repeat(n) - bins.per_latent(counts)
    return bins.per_latent(f[counts].view(-1, n, n_classes).sum(-1)).T


def _rest(own: Tensor, others: Tensor, mixed: Tensor, per_class: int, n_classes: int) -> Tensor:
    """Return the divergence of a class and the others from sums of x log2 x over bins.

    Args:
        own: The sum for x = the counts of the class.
        others: The sum for x = the counts of all other classes together.
        mixed: The sum for x = the counts of the equal mixture of both.
        per_class: The examples of each class.
        n_classes: The number of classes.
    """
    n, m = per_class, (n_classes - 1) * per_class
    return (math.log2(2 * m) - mixed / (2 * m)) - (math.log2(n) - own / n + math.log2(m) - others / m) / 2


def _entropy(p: Tensor) -> Tensor:
    """Return the entropy over the last dimension, in bits; 0 log 0 counts as 0."""
    return -torch.special.xlogy(p, p).sum(-1) / math.log(2)


def _xlog2x(largest: int, device: torch.device | str) -> Tensor:
    """Return x log2 x for the whole numbers from 0 to ``largest``."""
    x = torch.arange(largest + 1, dtype=torch.float64, device=device)
    return torch.special.xlogy(x, x) / math.log(2)


@lru_cache(maxsize=64)
def _known_expectations(n_classes: int, per_class: int) -> Float[Tensor, "4 counts"]:
    """Return the table that `_expectations` fills, NaN where nothing is known yet.

    It is kept, because SAEs, halves and datasets often share these sizes.
    """
    return torch.full((4, n_classes * per_class + 1), torch.nan, dtype=torch.float64)


def _expectations(n_classes: int, per_class: int, drawn: Int[Tensor, " rows"]) -> Float[Tensor, "4 rows"]:
    """Return means over permutations of x log2 x, for bins that hold ``drawn`` of all examples.

    In the four rows, x is the count of one class, of all others, of their mixture as in `_rest`, and of two classes
    together.
    """
    known = _known_expectations(n_classes, per_class)
    wanted = drawn.unique().cpu()
    new = wanted[known[0, wanted].isnan()]
    total = n_classes * per_class
    f = _xlog2x(2 * (n_classes - 1) * per_class + total, "cpu")
    for n in new.split(max(1, _TABLE_ELEMENTS // (2 * per_class + 1))):
        k, p = _hypergeometric(n, total, per_class)
        x = torch.stack([k, n[:, None] - k, n[:, None] + (n_classes - 2) * k])
        known[:3, n] = (f[x] * p).sum(-1)
        k, p = _hypergeometric(n, total, 2 * per_class)
        known[3, n] = (f[k] * p).sum(-1)
    return known.to(drawn.device)[:, drawn]


def _hypergeometric(drawn: Int[Tensor, " rows"], total: int, marked: int) -> tuple[Tensor, Tensor]:
    """Return how many marked items may be among those drawn, and the probability of each number.

    Both are ``[rows, marked + 1]``. A number that cannot be drawn has probability 0 and is replaced by one that can.

    Args:
        drawn: How many items are drawn.
        total: How many items there are.
        marked: How many of them are marked.
    """
    log_factorial = torch.lgamma(torch.arange(total + 1, dtype=torch.float64) + 1)
    n, k, unmarked = drawn[:, None], torch.arange(marked + 1), total - marked
    inside = torch.minimum(k.clamp(min=(n - unmarked).clamp(min=0)), n)
    log_p = (
        log_factorial[marked] - log_factorial[inside] - log_factorial[marked - inside]
        + log_factorial[unmarked] - log_factorial[n - inside] - log_factorial[unmarked - n + inside]
        - log_factorial[total] + log_factorial[n] + log_factorial[total - n]
    )  # fmt: skip
    return inside, torch.where(inside == k, log_p.exp(), 0.0)
