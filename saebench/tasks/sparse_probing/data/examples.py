"""What probes read of a dataset: activations or latents of its examples, with their labels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from saebench.errors import SaebenchError
from saebench.passes.context import TaskContext
from saebench.sae.codes import Coder, Codes, dense
from saebench.sae.protocol import Capability, SparseCodes
from saebench.tasks.sparse_probing.data.datasets import Dataset
from saebench.tasks.sparse_probing.settings import SparseProbingSettings


class Rng(Protocol):
    """Gives a random generator for each purpose, content and list of numbers, as ``TaskContext.rng`` does."""

    def __call__(self, purpose: str, content: str, *numbers: int | float) -> np.random.Generator: ...


@dataclass(frozen=True, eq=False)  # tensors do not compare to one truth
class ProbeData:
    """The examples of a labelled dataset at one site, divided into training and test examples.

    ``x_train[n, d]`` and ``x_test[m, d]`` are float32 activations, or latents as dense or sparse codes; ``y_train[n]``
    and ``y_test[m]`` are bool. ``content`` is the content hash of the dataset, and the purpose and the numbers of a
    draw from it are added where this is one. It seeds the folds.
    """

    content: str
    x_train: Codes
    y_train: Tensor
    x_test: Codes
    y_test: Tensor

    def encoded(self, encode: Callable[[Tensor], Codes]) -> ProbeData:
        """The examples as an SAE encodes them."""
        assert isinstance(self.x_train, Tensor)
        assert isinstance(self.x_test, Tensor)
        return replace(self, x_train=encode(self.x_train), x_test=encode(self.x_test))

    def subset(
        self, content: str, train: Tensor | None = None, test: Tensor | None = None, y_train: Tensor | None = None
    ) -> ProbeData:
        """Return some of the examples.

        Args:
            content: The ``content`` of the subset.
            train: Indices of training examples; None for all.
            test: Indices of test examples; None for all.
            y_train: Labels for the chosen training examples, in place of their own.
        """
        subset = replace(self, content=content)
        if train is not None:
            subset = replace(subset, x_train=take(self.x_train, train), y_train=self.y_train[train])
        if test is not None:
            subset = replace(subset, x_test=take(self.x_test, test), y_test=self.y_test[test])
        return subset if y_train is None else replace(subset, y_train=y_train)

    def tested_on(self, other: ProbeData) -> ProbeData:
        """The training examples, with the test examples of ``other``."""
        return replace(self, x_test=other.x_test, y_test=other.y_test)


def take(codes: Codes, rows: Tensor) -> Codes:
    """The codes of the examples that ``rows`` names, by indices or by a mask."""
    return SparseCodes(*(part[rows] for part in codes)) if isinstance(codes, SparseCodes) else codes[rows]


def read_activations(context: TaskContext, dataset: Dataset, site: str, settings: SparseProbingSettings) -> ProbeData:
    """Read the activations of a dataset at ``site``, pooled over the tokens of each prompt, on the model's device."""
    if settings.pooling == "last":
        examples = context.examples(dataset.texts, settings.context_length)
        return _divided(dataset, examples.last(site).to(context.lm.device))
    return _divided(dataset, _mean_over_tokens(context, dataset, site, settings, lambda block: block))


def read_latents(context: TaskContext, dataset: Dataset, coder: Coder, settings: SparseProbingSettings) -> ProbeData:
    """Read the latents of a dataset: those at the last token, or their means over the tokens (2503.09532).

    Raises SaebenchError when they hold NaN or Inf.
    """
    sae = coder.sae
    if settings.pooling == "last":
        data = read_activations(context, dataset, sae.hook.site_in, settings).encoded(lambda x: _encode(coder, x))
    else:

        def latents(block: Tensor) -> Tensor:
            codes = _encode(coder, block)
            return dense(codes, sae.d_sae) if isinstance(codes, SparseCodes) else codes

        data = _divided(dataset, _mean_over_tokens(context, dataset, sae.hook.site_in, settings, latents))
    for codes in (data.x_train, data.x_test):
        values = codes.values if isinstance(codes, SparseCodes) else codes
        if not bool(values.isfinite().all()):
            raise SaebenchError(
                f"{sae.name}: its latents hold NaN or Inf on dataset {dataset.name!r}, so no probe can read them; see "
                "what it does to activations of this size at this hook (saebench check-adapter)."
            )
    return data


def _encode(coder: Coder, x: Tensor) -> Codes:
    sae = coder.sae
    if Capability.SPARSE_ENCODE in sae.capabilities:
        return coder.codes(x)
    return torch.cat([sae.encode(block.clone()).detach() for block in x.split(coder.tokens_per_block)])


def _mean_over_tokens(
    context: TaskContext,
    dataset: Dataset,
    site: str,
    settings: SparseProbingSettings,
    function: Callable[[Tensor], Tensor],
) -> Tensor:
    """The mean of ``function(activations)`` over the tokens of each example that are not special."""
    device = context.lm.device
    total: Tensor | None = None
    count = torch.zeros(len(dataset.texts), device=device)
    for x, example in context.examples(dataset.texts, settings.context_length).tokens(site):
        values, rows = function(x.to(device)), example.to(device)
        if total is None:
            total = torch.zeros(len(dataset.texts), values.shape[1], device=device)
        total.index_add_(0, rows, values.float())
        count.index_add_(0, rows, torch.ones_like(rows, dtype=count.dtype))
    assert total is not None
    return total / count[:, None]


def _divided(dataset: Dataset, x: Tensor) -> ProbeData:
    y, n = torch.from_numpy(dataset.y).to(x.device), dataset.n_train
    return ProbeData(dataset.content_hash, x[:n], y[:n], x[n:], y[n:])
