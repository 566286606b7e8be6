"""What a task is given: the language model, its texts, and everything that SAEs can share."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from saebench.budget import Budget
from saebench.cache.tensors import TensorCache
from saebench.data.split import CALIBRATION_CONTEXT, CALIBRATION_SEQUENCES, Split, split_documents
from saebench.data.text import Documents, load_documents
from saebench.data.tokens import TokenBatch, tokenize
from saebench.errors import DataError, UsageError
from saebench.lm.batching import pick_batch_size
from saebench.lm.model import LanguageModel
from saebench.progress import NullProgress, Progress
from saebench.stats.intervals import resampling_weights
from saebench.stats.rng import generator
from saebench.tasks.captured import CapturedText
from saebench.tasks.clean import CleanPass
from saebench.tasks.positions import Positions


@dataclass
class TaskContext:
    """One (language model, seed). Everything here is computed when first asked for, then kept.

    A text's documents are split once per seed: a fifth calibrates the controls, the rest is evaluated, so that
    nothing fitted ever sees an evaluated document. ``sites`` are those known to be needed: one pass captures them
    all. Without a ``batch_size`` one is picked from the model and the budget.
    """

    lm: LanguageModel
    seed: int = 0
    batch_size: int | None = None
    progress: Progress = field(default_factory=NullProgress)
    read: Callable[[str], Documents] = load_documents
    budget: Budget = field(default_factory=Budget)
    cache: TensorCache | None = None
    sites: tuple[str, ...] = ()
    _texts: dict[str, Split] = field(default_factory=dict, repr=False)
    _batches: dict[tuple[str, int, int], TokenBatch] = field(default_factory=dict, repr=False)
    _captured: dict[tuple[str, int, int], CapturedText] = field(default_factory=dict, repr=False)
    _clean: dict[tuple[str, int, int, str], CleanPass] = field(default_factory=dict, repr=False)
    _calibrating: dict[str, CapturedText] = field(default_factory=dict, repr=False)
    _calibration: dict[tuple[str, str], Tensor] = field(default_factory=dict, repr=False)
    _weights: dict[tuple[int, int], NDArray[np.float64]] = field(default_factory=dict, repr=False)

    def rng(self, name: str) -> np.random.Generator:
        """The named generator of this seed: the same for every SAE."""
        return generator(self.seed, name)

    def text(self, ref: str) -> Split:
        """Calibration and evaluation documents of a text reference. Raises UsageError, DataError, AssetError."""
        if ref not in self._texts:
            self._texts[ref] = split_documents(self.read(ref), self.rng(f"split:{ref}"))
        return self._texts[ref]

    def batch(self, ref: str, context_length: int, sequences: int) -> TokenBatch:
        """Evaluation sequences of a text.

        Raises UsageError when the model has fewer positions than ``context_length``, DataError when the text is too
        short or holds nothing but special tokens.
        """
        key = (ref, context_length, sequences)
        if key not in self._batches:
            if context_length > (positions := self._positions()):
                raise UsageError(
                    f"{self.lm.name} has {positions} positions; context_length={context_length} is too long."
                )
            documents = self.text(ref).evaluation
            batch = tokenize(documents, self.lm.tokenizer, context_length, sequences, self.seed)
            if not bool(batch.evaluated[:, 1:].any()):
                raise DataError(
                    f"Text {ref!r} gives special tokens only, so there is nothing to evaluate; use a text that the "
                    f"tokenizer of {self.lm.name} knows."
                )
            self._batches[key] = batch
        return self._batches[key]

    def _positions(self) -> int:
        """How many tokens the model can read at once, as its configuration says."""
        return int(getattr(self.lm.config.get_text_config(), "max_position_embeddings", None) or sys.maxsize)

    def captured(self, ref: str, context_length: int, sequences: int) -> CapturedText:
        """What the unmodified model does on a text, at every site."""
        key = (ref, context_length, sequences)
        if key not in self._captured:
            self._captured[key] = self._capture(self.batch(ref, context_length, sequences))
        return self._captured[key]

    def clean(self, ref: str, context_length: int, sequences: int, site: str) -> CleanPass:
        """Clean losses and ablations at a site, shared by every SAE there."""
        key = (ref, context_length, sequences, site)
        if key not in self._clean:
            self._clean[key] = CleanPass(self.captured(ref, context_length, sequences), site, self.progress)
        return self._clean[key]

    def bootstrap_weights(self, n_units: int, replicates: int) -> NDArray[np.float64]:
        """Bootstrap draws ``[replicates, n_units]``, the same for every SAE and metric."""
        key = (n_units, replicates)
        if key not in self._weights:
            self._weights[key] = resampling_weights(n_units, replicates, self.rng(f"bootstrap:{n_units}"))
        return self._weights[key]

    def calibration(self, ref: str, site: str) -> Tensor:
        """Activations ``[tokens, d]`` at a site, float32, on documents that are never evaluated.

        Those asked for last are kept.
        """
        key = (ref, site)
        if key not in self._calibration:
            self._calibration = {key: self._calibrate(ref, site)}
        return self._calibration[key]

    def _calibrate(self, ref: str, site: str) -> Tensor:
        if ref not in self._calibrating:
            documents = self.text(ref).calibration
            try:
                length = min(CALIBRATION_CONTEXT, self._positions())
                batch = tokenize(documents, self.lm.tokenizer, length, CALIBRATION_SEQUENCES, self.seed)
            except DataError as error:
                raise DataError(
                    f"{error} The controls that are fitted (pca, random) need it for their calibration."
                ) from error
            self._calibrating[ref] = self._capture(batch)
        captured = self._calibrating[ref]
        captured.want(site)
        found: list[Tensor] = []

        def then(shard: slice) -> None:
            positions = Positions.of(captured.batch, shard, torch.device("cpu"))
            found.append(positions.at_evaluated(captured.activations(site, shard)).float())

        captured.complete(f"calibration at {site}", then)
        return torch.cat(found)

    def _capture(self, batch: TokenBatch) -> CapturedText:
        if self.cache is None:
            self.cache = TensorCache(None, memory=self.budget.resident, disk=0)
        batch_size = self.batch_size or pick_batch_size(self.lm, batch.tokens.shape[1], self.budget.passes)
        captured = CapturedText(self.lm, batch, self.cache, batch_size, self.progress)
        captured.want(*self.sites)
        return captured
