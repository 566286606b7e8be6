"""The readout: the matrix with which the model predicts the next token, fitted to the known process."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from saebench.stats.rng import generator
from saebench.synthetic.planted.directions import on_grid
from saebench.synthetic.planted.process import Process, States
from saebench.synthetic.planted.truth import Planted, normed, with_first
from saebench.synthetic.planted.words import EOS

_PENALTY = 1e-5  # on the sum of the squares of the whitened weights
_RIDGE = 1e-3  # added to the mean square of each whitened direction
_GRID = 2.0**-10  # the weights are multiples of it, so that rounding on another machine gives the same numbers

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Quality:
    """How well the model predicts words of documents, in nats per word.

    Attributes:
        loss: The cross-entropy of the model.
        entropy: The entropy of the process for somebody who knows the state of each document: no model can be better.
        unigram: The cross-entropy of the best prediction that ignores the text.
    """

    loss: float
    entropy: float
    unigram: float


def fit(planted: Planted, process: Process, purpose: str = "fit", share: float = 1.0) -> Tensor:
    """Return the readout that predicts best on documents drawn for it, ``[tokens, d]``.

    The targets are the probabilities of the process, which hold less noise than words that are drawn from them.

    Args:
        planted: The features.
        process: The process.
        purpose: What the readout is for; each purpose has documents of its own.
        share: The share of the recipe's tokens that it is fitted to.
    """
    from scipy.optimize import minimize

    recipe = process.vocabulary.recipe
    tokens, states = documents(process, recipe.fit_documents, purpose)
    x = _inputs(planted, tokens)
    target = np.concatenate(_targets(process, tokens, states))
    drawn = generator(process.seed, f"planted:{purpose} positions").permutation(len(x))
    drawn = drawn[: round(share * recipe.fit_tokens)]
    x, target = x[drawn], target[drawn]
    n, shape = len(x), planted.readout.shape
    values, vectors = np.linalg.eigh(x.T @ x / n)
    whitening = vectors / np.sqrt(values + _RIDGE)  # makes the fit take fewer steps
    x = x @ whitening

    def loss(flat: Array) -> tuple[float, Array]:
        weights = flat.reshape(shape)
        logits = x @ weights.T
        logits -= logits.max(1, keepdims=True)
        p = np.exp(logits)
        total = p.sum(1, keepdims=True)
        value = -(target * (logits - np.log(total))).sum() / n + _PENALTY * np.square(weights).sum()
        p /= total
        p -= target
        return float(value), (p.T @ x / n + 2 * _PENALTY * weights).ravel()

    found = minimize(loss, np.zeros(shape).ravel(), jac=True, method="L-BFGS-B", options={"maxiter": recipe.fit_steps})
    return torch.from_numpy(on_grid(found.x.reshape(shape) @ whitening.T, _GRID)).float()


def quality(planted: Planted, process: Process, n: int = 100) -> Quality:
    """Measure the model on ``n`` documents that nothing was fitted to."""
    tokens, states = documents(process, n, "quality")
    logs = torch.log_softmax(planted.logits(planted.activations(with_first(tokens)[:, :-1])).double(), dim=-1)
    loss = -logs.gather(-1, torch.from_numpy(tokens)[..., None]).mean()
    p = np.stack(_words(process, tokens, states), axis=1)
    entropy = -(p * np.log(p, where=p > 0, out=np.zeros_like(p))).sum(-1).mean()
    seen = np.bincount(documents(process, 4 * n, "unigram")[0].ravel(), minlength=planted.n_tokens) + 0.5
    unigram = -np.log(seen / seen.sum())[tokens].mean()
    return Quality(float(loss), float(entropy), float(unigram))


def documents(process: Process, n: int, purpose: str) -> tuple[NDArray[np.int64], States]:
    """Draw ``n`` documents of a purpose of their own, ``[documents, words]``, with their states."""
    rng = generator(process.seed, f"planted:{purpose}")
    states = process.states(n, rng)
    return process.draw(states, process.vocabulary.recipe.words, rng), states


def _inputs(planted: Planted, tokens: NDArray[np.int64]) -> Array:
    """Return what the readout reads at every position, position by position."""
    x = normed(planted.activations(with_first(tokens)).double())
    return x.transpose(0, 1).reshape(-1, x.shape[-1]).numpy()


def _targets(process: Process, tokens: NDArray[np.int64], states: States) -> list[Array]:
    """Return the probabilities of the next token at every position, with those of the end of the document."""
    hazard = 1 / (tokens.shape[1] + 1)
    out = []
    for p in [*_words(process, tokens, states), process.token_probabilities(states, tokens[:, -1])]:
        p = (1 - hazard) * p
        p[:, EOS] = hazard
        out.append(p)
    return out


def _words(process: Process, tokens: NDArray[np.int64], states: States) -> list[Array]:
    """Return the probabilities of the word at every position."""
    before = with_first(tokens).numpy()
    return [process.token_probabilities(states, before[:, place]) for place in range(tokens.shape[1])]
