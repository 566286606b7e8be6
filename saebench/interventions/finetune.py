"""The settings of a fine-tune, which trains some layers towards activations at a site, and its training data."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from saebench.data.tokens import TokenBatch
from saebench.errors import DataError, UsageError
from saebench.interventions.base import finite
from saebench.lm.batching import for_batches, pick_batch_size
from saebench.lm.model import LanguageModel
from saebench.lm.site import parse_site
from saebench.stats.rng import generator

_MEMORY = 2**28  # the bytes for a pass without gradients


@dataclass(frozen=True)
class FineTune:
    """How to train. The losses are of the activation at ``site``; the MLP down projections of ``layers`` are trained.

    Each Adam step moves an entry of a weight by about ``lr`` times the root mean square of that weight. There is no
    weight decay, which would forget regardless of the texts. The penalty acts at the end of each step by its proximal
    operator, which divides what dW writes outside the relevant subspace by 1 + 2 lr lambda. So any penalty is stable,
    and a very large one acts as a constraint.

    Raises:
        UsageError: The site is not a hook_resid_post, a layer is after it, or a number is out of its range.
    """

    site: str  # blocks.LAYER.hook_resid_post
    layers: tuple[int, ...] = ()  # by default the layer of the site and the two before it, as in RMU
    steps: int = 40
    forget_batch: int = 4  # in sequences
    retain_batch: int = 4  # in sequences
    lr: float = 0.01  # in units of the root mean square of each weight
    alpha: float = 10.0  # the weight of the retain loss
    penalty: float = 0.0  # lambda, in units of one over the mean square of each weight
    coefficient: float = 2.0  # c, the norm of the target, in units of s
    seed: int = 0

    def __post_init__(self) -> None:
        where = parse_site(self.site)
        if where.kind != "hook_resid_post":
            raise UsageError(f"The site of a fine-tune must be a hook_resid_post, unlike {self.site!r}.")
        layers = self.layers or range(max(0, where.layer - 2), where.layer + 1)
        object.__setattr__(self, "layers", tuple(sorted(set(layers))))
        if self.layers[0] < 0 or self.layers[-1] > where.layer:
            raise UsageError(
                f"The layers {list(self.layers)} cannot be trained for {self.site}; use layers from 0 to {where.layer}."
            )
        for name in ("steps", "forget_batch", "retain_batch"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} of a fine-tune must be at least 1, not {getattr(self, name)}.")
        for name in ("lr", "alpha", "penalty", "coefficient"):
            if finite(name, getattr(self, name)) < 0:
                raise UsageError(f"{name} of a fine-tune must be at least 0, not {getattr(self, name)}.")

    @property
    def start(self) -> str:
        """The hook at which every pass of the training begins."""
        return f"blocks.{self.layers[0]}.hook_resid_pre"


@dataclass(frozen=True, eq=False)
class Side:
    """The sequences to forget or to retain, and their residual stream before any change."""

    tokens: Int[Tensor, "sequences context"]
    evaluated: Bool[Tensor, "sequences context"]
    start: Float[Tensor, "sequences context d_model"]  # the residual stream where the passes begin
    site: Float[Tensor, "sequences context d_model"]  # the residual stream at the site of the losses
    content_hash: str

    def batches(self, size: int) -> Iterator[Tensor]:
        """Yield the numbers of the next ``size`` rows without end, beginning again with the first after the last."""
        row, n = 0, len(self.tokens)
        while True:
            yield torch.arange(row, row + size, device=self.tokens.device) % n
            row += size


@dataclass(frozen=True, eq=False)
class TrainingData:
    """The texts of a fine-tune and everything that does not change with the weights, as `prepare` makes it."""

    forget: Side
    retain: Side
    mean_square: float  # s^2, the mean over the evaluated tokens of both sides
    key: tuple[Any, ...]  # what it was prepared for, see `training_key`


def prepare(lm: LanguageModel, forget: TokenBatch, retain: TokenBatch, settings: FineTune) -> TrainingData:
    """Read the residual stream of as many random sequences as the steps need, or of all if there are fewer.

    The result serves every training with the same site, first layer, steps, batch sizes and seed.

    Args:
        lm: The language model.
        forget: The sequences to forget.
        retain: The sequences to retain.
        settings: How to train.

    Raises:
        HookMismatchError: The model has no such site.
        DataError: The texts have no token to evaluate.
    """
    lm.site(settings.site)
    sides = []
    for side, batch, size in (
        ("forget", forget, settings.forget_batch),
        ("retain", retain, settings.retain_batch),
    ):
        order = generator(settings.seed, f"fine-tune:{side}").permutation(len(batch.tokens))
        rows = torch.from_numpy(order[: settings.steps * size])
        tokens, evaluated = batch.tokens[rows].to(lm.device), batch.evaluated[rows].to(lm.device)
        if not evaluated.any():
            raise DataError(f"The {side} texts of the fine-tune hold only special tokens; use other texts.")
        sides.append(Side(tokens, evaluated, *_read(lm, tokens, settings), batch.content_hash))
    squares = torch.cat([side.site[side.evaluated].float().square().sum(-1) for side in sides])
    return TrainingData(sides[0], sides[1], float(squares.mean()), training_key(lm, settings))


def training_key(lm: LanguageModel, settings: FineTune) -> tuple[Any, ...]:
    """Return what the result of `prepare` depends on, apart from the texts."""
    batches = (settings.forget_batch, settings.retain_batch)
    return (lm.fingerprint, settings.site, settings.start, settings.steps, *batches, settings.seed)


def _read(lm: LanguageModel, tokens: Tensor, settings: FineTune) -> tuple[Tensor, Tensor]:
    """Return the residual stream where the passes begin, and at the site."""
    shape = (*tokens.shape, lm.d_model)
    start, site = (torch.empty(shape, dtype=lm.dtype, device=lm.device) for _ in range(2))

    def work(rows: slice) -> None:
        activations = lm.prefix(tokens[rows], [settings.start, settings.site])
        start[rows], site[rows] = activations[settings.start], activations[settings.site]

    for_batches(slice(0, len(tokens)), pick_batch_size(lm, tokens.shape[1], _MEMORY), work)
    return start, site
