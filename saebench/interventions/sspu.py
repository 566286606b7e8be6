"""Unlearning by training: RMU (arXiv 2403.03218), and SSPU (arXiv 2505.24428), which SAE latents' subspaces guide.

Let h be the residual stream at the site, h_0 that of the unchanged model, and s^2 the mean of ||h_0||^2. The loss is

    L = E_forget ||h - u||^2 / s^2  +  alpha E_retain ||h - h_0||^2 / s^2  +  lambda sum_W ||(I - U_rel U_rel^T) dW||^2
    u = c s U_irr U_irr^T r / ||U_irr U_irr^T r||,   r ~ N(0, I)

Because of s, the losses and c do not depend on the scale of the model. As in RMU, r is drawn once for a run: a target
that is drawn again at each step has mean 0 and would only pull towards the origin. The steps are SSPU's; the formulas
and the defaults are saebench's. Without subspaces and with lambda = 0 this is RMU, except that RMU draws r from a
uniform distribution.
"""

from __future__ import annotations

import math
from contextlib import ExitStack
from dataclasses import asdict

import torch
from jaxtyping import Float
from torch import Tensor

from saebench.data.tokens import TokenBatch
from saebench.errors import SaebenchError, UsageError
from saebench.interventions.finetune import FineTune, Side, TrainingData, prepare, training_key
from saebench.interventions.subspaces import Subspaces, shrinkage
from saebench.interventions.weights import OutputWeight, WeightDelta, output_weight, restoring
from saebench.lm.model import LanguageModel
from saebench.progress import NullProgress, Progress
from saebench.stats.rng import generator


def train(
    lm: LanguageModel,
    data: TrainingData,
    settings: FineTune,
    subspaces: Subspaces | None,
    progress: Progress | None = None,
) -> WeightDelta:
    """Train, and return the change of the weights. The model itself has its old weights again afterwards.

    Args:
        lm: The language model.
        data: The training data that `prepare` has made.
        settings: How to train.
        subspaces: The subspaces that guide the training, or None for RMU.
        progress: Receives the progress.

    Raises:
        UsageError: The data were prepared under other settings.
        HookMismatchError: The subspaces have another width than the residual stream.
        ModelError: A layer has no MLP output projection of its own.
        SaebenchError: The loss diverges.
    """
    if data.key != training_key(lm, settings):
        raise UsageError(
            "The data of this fine-tune were prepared for another model, site, first layer, number of steps, batch "
            "size or seed; prepare them with the same settings."
        )
    subspaces = subspaces or Subspaces(None, None)
    subspaces.check(lm.d_model)
    outputs = [output_weight(lm, layer) for layer in settings.layers]
    weights = [output.weight for output in outputs]
    before = [weight.detach().to(torch.promote_types(weight.dtype, torch.float32)) for weight in weights]
    changes = [torch.zeros_like(weight) for weight in before]
    optimizer = torch.optim.Adam(
        [
            {"params": [change], "lr": settings.lr * float(weight.square().mean().sqrt())}
            for change, weight in zip(changes, before, strict=True)
        ]
    )
    shrink = _shrinkages(outputs, settings, subspaces)
    target = _target(lm, data, settings, subspaces)
    losses: list[list[float]] = []
    with ExitStack() as stack:
        stack.enter_context(restoring(weights))
        stack.enter_context(torch.enable_grad())
        ticker = stack.enter_context((progress or NullProgress()).task("fine-tuning", settings.steps, "steps"))
        for weight in weights:
            weight.requires_grad_(True)
        forget_batches = data.forget.batches(settings.forget_batch)
        retain_batches = data.retain.batches(settings.retain_batch)
        for step in range(settings.steps):
            for weight, old, change in zip(weights, before, changes, strict=True):
                weight.data = (old + change).to(weight.dtype)
            rows = next(forget_batches)
            forget = _distance(lm, data.forget, rows, target, settings) / data.mean_square
            forget.backward()
            rows = next(retain_batches)
            retain = _distance(lm, data.retain, rows, data.retain.site[rows], settings) / data.mean_square
            (settings.alpha * retain).backward()
            losses.append([forget.item(), retain.item()])
            if not all(map(math.isfinite, losses[-1])):
                raise SaebenchError(
                    f"The fine-tune diverged at step {step}: its losses are {losses[-1]}; use a lower lr."
                )
            for weight, change in zip(weights, changes, strict=True):
                change.grad, weight.grad = weight.grad.to(change.dtype), None  # type: ignore[union-attr]
            optimizer.step()
            for output, change, matrix in zip(outputs, changes, shrink, strict=True):
                if matrix is not None:
                    view = output.by_output(change)
                    view.copy_(matrix.to(view.dtype) @ view)
            ticker.advance()
    return WeightDelta(
        {layer: change.cpu() for layer, change in zip(settings.layers, changes, strict=True)},
        lm.fingerprint,
        {
            "kind": "fine-tune",
            **{name: list(value) if isinstance(value, tuple) else value for name, value in asdict(settings).items()},
            "subspaces": subspaces.describe(),
            "forget": data.forget.content_hash,
            "retain": data.retain.content_hash,
            "lm": lm.fingerprint,
        },
        torch.tensor(losses),
    )


def unlearn(
    lm: LanguageModel,
    forget: TokenBatch,
    retain: TokenBatch,
    settings: FineTune,
    subspaces: Subspaces | None,
    progress: Progress | None = None,
) -> WeightDelta:
    """Prepare the data and train, and return the change of the weights.

    Args:
        lm: The language model.
        forget: The sequences to forget.
        retain: The sequences to retain.
        settings: How to train.
        subspaces: The subspaces that guide the training. None, with ``settings.penalty`` 0, gives RMU.
        progress: Receives the progress.

    Raises:
        SaebenchError: As in `prepare` and `train`.
    """
    return train(lm, prepare(lm, forget, retain, settings), settings, subspaces, progress)


def _target(
    lm: LanguageModel, data: TrainingData, settings: FineTune, subspaces: Subspaces
) -> Float[Tensor, " d_model"]:
    """Return the target u of the texts to forget."""
    r = torch.from_numpy(generator(settings.seed, "fine-tune:target").standard_normal(lm.d_model))
    if subspaces.irrelevant is not None:
        basis = subspaces.irrelevant.double().cpu()
        r = basis @ (basis.T @ r)
    return (settings.coefficient * data.mean_square**0.5 * r / r.norm()).float().to(lm.device)


def _shrinkages(outputs: list[OutputWeight], settings: FineTune, subspaces: Subspaces) -> list[Tensor | None]:
    """Return for each weight the matrix by which the penalty shrinks its change, or None without a penalty."""
    if subspaces.relevant is None or settings.penalty == 0:
        return [None] * len(outputs)
    return [shrinkage(subspaces.relevant, output, 2 * settings.lr * settings.penalty) for output in outputs]


def _distance(lm: LanguageModel, side: Side, rows: Tensor, wanted: Tensor, settings: FineTune) -> Tensor:
    """Return the mean squared distance between the activation at the site and ``wanted``, over evaluated tokens."""
    h = lm.between(side.tokens[rows], settings.start, side.start[rows], settings.site)
    squares = (h.float() - wanted.float()).square().sum(-1)
    evaluated = side.evaluated[rows]
    return torch.where(evaluated, squares, 0).sum() / evaluated.sum().clamp(min=1)
