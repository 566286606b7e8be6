"""The labelled datasets of a run, divided into training and test examples, and their activations at a site."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from saebench.data.labelled import Labelled, load_labelled, split_labelled
from saebench.data.probes import ASSET, binary_dataset_names
from saebench.errors import DataError, SaebenchError, UsageError
from saebench.passes.context import TaskContext
from saebench.sae.codes import Coder, Codes, dense
from saebench.sae.protocol import SAE, Capability, SparseCodes
from saebench.tasks.sparse_probing.problem import ProbeData

Pooling = Literal["last", "mean"]

ALL = "all"
_FEWEST = 20  # examples on either side
_TESTED = 100  # that training leaves for the test of a small dataset (2502.16681)


@dataclass(frozen=True)
class Dataset:
    """Prompts of two classes: ``texts[:n_train]`` to train on, the rest to test on. ``y[n]`` is True for class 1."""

    name: str  # what tables call it
    ref: str
    texts: tuple[str, ...]
    y: NDArray[np.bool_]
    n_train: int
    content_hash: str


def dataset_refs(names: Sequence[str]) -> list[str]:
    """References of names and references; ``all`` are the 113 binary tasks of 2502.16681. Raises UsageError."""
    if not names:
        raise UsageError("No dataset is given; name one, or `all`.")
    every = [each for name in names for each in (binary_dataset_names() if name == ALL else [name])]
    refs = [each if ":" in each else f"asset:{ASSET}/{each}" for each in every]
    if twice := next((ref for ref in refs if refs.count(ref) > 1), None):
        raise UsageError(f"Dataset {twice!r} is given twice; each counts once.")
    return refs


def load_datasets(context: TaskContext, parameters: dict[str, Any]) -> list[Dataset]:
    """All datasets of a run, read and divided once. Raises UsageError, AssetError, DataError."""
    train, test = parameters["train_examples"], parameters["test_examples"]
    refs = dataset_refs(parameters["datasets"])

    def load() -> list[Dataset]:
        names = _short_names(refs)
        return [_divide(load_labelled(ref), name, context, train, test) for ref, name in zip(refs, names, strict=True)]

    return context.shared(("sparse_probing", "datasets", tuple(refs), train, test), load)


def _divide(data: Labelled, name: str, context: TaskContext, train: int, test: int) -> Dataset:
    """Balanced sets of the sizes asked for. Of smaller data the test set shrinks first, to 100 or a third."""
    if len(data.classes) != 2:
        raise DataError(
            f"{data.ref!r} has {len(data.classes)} classes, and a probe tells two apart; name a binary dataset."
        )
    available = 2 * int(data.counts.min())
    train = min(train, available - min(test, _TESTED, available // 3))
    test = min(test, available - train)
    if min(train, test) < _FEWEST:
        raise DataError(
            f"{data.ref!r} has {int(data.counts.min())} examples in its smaller class, too few for {_FEWEST} to test "
            "on and twice as many to train on; give a larger dataset."
        )
    rng = context.rng(f"sparse_probing:{data.content_hash}")
    rows = np.concatenate(split_labelled(data, rng, train=train, test=test))
    texts = tuple(data.texts[row] for row in rows)
    return Dataset(name, data.ref, texts, data.labels[rows] == 1, train, data.content_hash)


def _short_names(refs: Sequence[str]) -> list[str]:
    short = [ref.removeprefix(f"asset:{ASSET}/") for ref in refs]
    short = [Path(ref.split(":", 1)[1]).stem if ref.startswith(("csv:", "jsonl:")) else ref for ref in short]
    return [ref if short.count(name) > 1 else name for ref, name in zip(refs, short, strict=True)]


def activations(context: TaskContext, dataset: Dataset, site: str, length: int, pooling: Pooling) -> ProbeData:
    """Activations of a dataset at ``site`` on the model's device: at the last token, or the mean over tokens."""
    examples = context.examples(dataset.texts, length)
    if pooling == "last":
        x = examples.last(site).to(context.lm.device)
    else:
        x = _mean_over_tokens(context, dataset, site, length, lambda block: block)
    return _divided(dataset, x)


def codes(context: TaskContext, dataset: Dataset, sae: SAE, coder: Coder, length: int, pooling: Pooling) -> ProbeData:
    """Latents of a dataset: of the activation at the last token, or their mean over tokens (2503.09532).

    Raises SaebenchError when they hold NaN or Inf.
    """
    site = sae.hook.site_in
    if pooling == "last":
        data = activations(context, dataset, site, length, pooling).with_codes(lambda x: _encode(sae, coder, x))
    else:
        means = _mean_over_tokens(context, dataset, site, length, lambda block: _dense(_encode(sae, coder, block), sae))
        data = _divided(dataset, means)
    for part in (data.x_train, data.x_test):
        values = part.values if isinstance(part, SparseCodes) else part
        if not bool(values.isfinite().all()):
            raise SaebenchError(
                f"{sae.name}: its latents hold NaN or Inf on dataset {dataset.name!r}, so no probe can read them; see "
                "what it does to activations of this size at this hook (saebench check-adapter)."
            )
    return data


def _encode(sae: SAE, coder: Coder, x: Tensor) -> Codes:
    if Capability.SPARSE_ENCODE in sae.capabilities:
        return coder.codes(x)
    return torch.cat([sae.encode(block.clone()).detach() for block in x.split(coder.tokens_per_block)])


def _dense(values: Codes, sae: SAE) -> Tensor:
    return dense(values, sae.d_sae) if isinstance(values, SparseCodes) else values


def _mean_over_tokens(
    context: TaskContext, dataset: Dataset, site: str, length: int, of: Callable[[Tensor], Tensor]
) -> Tensor:
    """Mean of ``of(x)`` over the tokens of each example that are not special."""
    device = context.lm.device
    total: Tensor | None = None
    count = torch.zeros(len(dataset.texts), device=device)
    for x, example in context.examples(dataset.texts, length).tokens(site):
        values, rows = of(x.to(device)), example.to(device)
        if total is None:
            total = torch.zeros(len(dataset.texts), values.shape[1], device=device)
        total.index_add_(0, rows, values.float())
        count.index_add_(0, rows, torch.ones_like(rows, dtype=count.dtype))
    assert total is not None
    return total / count[:, None]


def _divided(dataset: Dataset, x: Tensor) -> ProbeData:
    y, n = torch.from_numpy(dataset.y).to(x.device), dataset.n_train
    return ProbeData(dataset.content_hash, x[:n], y[:n], x[n:], y[n:])
