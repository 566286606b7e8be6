"""What a task is handed: the language model, its texts, and everything that SAEs can share."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

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
from saebench.lm.synthetic import SyntheticLM
from saebench.passes.captured import CapturedText
from saebench.passes.clean import CleanPass
from saebench.passes.examples import Examples, tokenize_examples
from saebench.passes.item_blocks import ItemBlocks, content_hash
from saebench.passes.positions import Positions
from saebench.passes.scored import Item, ScoredItems
from saebench.progress import NullProgress, Progress
from saebench.stats.intervals import resampling_weights
from saebench.stats.rng import NO_CONTENT, generator

T = TypeVar("T")


@dataclass
class TaskContext:
    """The language model and one seed. Everything here is computed when a task first asks for it, and then kept.

    The documents of a text are split once per seed: a fifth calibrates the controls and the rest is evaluated, so that
    nothing that is fitted ever sees an evaluated document.

    Which method to use when:

    * `text`, `batch`: documents and sampled sequences of a text; `captured` and `clean` what the model does on them;
    * `examples`: activations of texts that are read one by one, such as labelled examples;
    * `scored`: the probability of chosen tokens under interventions;
    * `rng`: a random generator for a purpose and content; `bootstrap_weights`: the draws that intervals are made from;
    * `shared`: anything else that does not depend on the SAE.

    Attributes:
        lm: The language model.
        seed: The seed of every draw.
        batch_size: Sequences per batch; None derives it from the model and the budget.
        progress: Where long work is shown.
        read: How documents are read from a reference.
        budget: The memory that work may take.
        cache: What computed activations and losses are kept in.
        sites: The sites that the run is known to need; one pass captures all of them.
    """

    lm: LanguageModel
    seed: int = 0
    batch_size: int | None = None
    progress: Progress = field(default_factory=NullProgress)
    read: Callable[[str], Documents] = load_documents
    budget: Budget = field(default_factory=Budget)
    cache: TensorCache | None = None
    sites: tuple[str, ...] = ()
    _shared: dict[Hashable, Any] = field(default_factory=dict, repr=False)
    _captures: dict[tuple[str, str], CapturedText] = field(default_factory=dict, repr=False)
    _calibration: dict[tuple[str, str], Tensor] = field(default_factory=dict, repr=False)

    def shared(self, key: Hashable, make: Callable[[], T]) -> T:
        """The value that ``make`` returned when ``key`` was first asked for.

        Use it for whatever does not depend on the SAE. The value is kept as long as the context, so it should be small.
        Begin the key with the task's name; a settings object may be part of it.
        """
        if key not in self._shared:
            self._shared[key] = make()
        return self._shared[key]

    def rng(self, purpose: str, content: str, *numbers: int | float) -> np.random.Generator:
        """A new random generator under this seed, which is the same whenever the arguments are.

        Args:
            purpose: What is drawn, beginning with the task's name.
            content: The hash of what it is drawn from (``content_hash`` of documents or of a labelled set, the
                fingerprint of an SAE), or `NO_CONTENT` for draws from numbers alone, which are the same for every SAE.
                A reference or a place in a list must not decide it: a text is the same text under every path.
            *numbers: What else tells draws apart, such as a size or the number of a repetition.
        """
        return generator(self.seed, purpose, content, *numbers)

    def text(self, ref: str) -> Split:
        """The calibration and the evaluation documents of a text. Raises UsageError, DataError, AssetError."""
        return self.shared(("text", ref), lambda: self._split(self.read(ref)))

    def batch(self, ref: str, context_length: int, sequences: int) -> TokenBatch:
        """Sequences of ``context_length`` tokens, sampled from the evaluation documents of a text.

        Raises:
            UsageError: The model has fewer positions than ``context_length``.
            DataError: The text is too short, or holds only special tokens.
            ModelError: The model has no embedding for a token of the text.
        """
        return self.shared(
            ("batch", ref, context_length, sequences), lambda: self._batch(ref, context_length, sequences)
        )

    def captured(self, ref: str, context_length: int, sequences: int) -> CapturedText:
        """What the unmodified model does on the sequences of a text, at every site."""
        return self.capture(self.batch(ref, context_length, sequences))

    def capture(self, batch: TokenBatch) -> CapturedText:
        """What the unmodified model does on sequences that the task made itself; equal ones are captured once."""
        key = (batch.content_hash, hashlib.sha256(batch.evaluated.numpy().tobytes()).hexdigest())
        if key not in self._captures:
            self._captures[key] = self._capture(batch)
        return self._captures[key]

    def examples(self, texts: Sequence[str], context_length: int) -> Examples:
        """Activations of texts that are read one by one; equal lists of texts are read once.

        Raises:
            UsageError: The model has fewer positions than ``context_length``.
            DataError: A text has no token to evaluate.
            ModelError: The model has no embedding for a token of a text.
        """
        return self.shared(
            ("examples", context_length, Documents("", list(texts)).content_hash),
            lambda: self._examples(texts, context_length),
        )

    def scored(self, items: Sequence[Item], site: str) -> ScoredItems:
        """The probability of chosen tokens under interventions at ``site``; equal items are computed once.

        Raises:
            UsageError: The model has fewer positions than an item has tokens.
            HookMismatchError: The model has no such site.
            DataError: No item has a token to predict.
        """
        key = content_hash(items)
        blocks = self.shared(("items", key), lambda: self._items(items))
        return self.shared(("scored", key, site), lambda: ScoredItems(blocks, site, self.progress))

    def clean(self, ref: str, context_length: int, sequences: int, *sites: str) -> CleanPass:
        """The clean losses of a text's sequences, and ablations at ``sites`` at once, shared by every SAE there."""
        return self.clean_pass(self.captured(ref, context_length, sequences), *sites)

    def clean_pass(self, captured: CapturedText, *sites: str) -> CleanPass:
        """The clean losses of a captured text, and ablations at ``sites`` at once."""
        return self.shared(("clean", captured, sites), lambda: CleanPass(captured, sites, self.progress))

    def bootstrap_weights(self, n_units: int, replicates: int) -> NDArray[np.float64]:
        """Bootstrap draws ``[replicates, n_units]``, the same for every SAE and metric."""
        return self.shared(
            ("bootstrap", n_units, replicates),
            lambda: resampling_weights(n_units, replicates, self.rng("bootstrap", NO_CONTENT, n_units)),
        )

    def calibration(self, ref: str, site: str) -> Tensor:
        """Activations ``[tokens, d]`` at a site in float32, on documents that are never evaluated.

        Only the activations that were asked for last are kept.
        """
        key = (ref, site)
        if key not in self._calibration:
            self._calibration = {key: self._calibrate(ref, site)}
        return self._calibration[key]

    def calibration_batch(self, ref: str, context_length: int, sequences: int) -> TokenBatch:
        """Up to ``sequences`` sequences of the calibration documents. Raises what `batch` raises."""
        self._check_length(context_length)
        return self.shared(
            ("calibration", ref, context_length, sequences),
            lambda: tokenize(self.text(ref).calibration, self.lm.tokenizer, context_length, sequences, self.seed),
        )

    def _split(self, documents: Documents) -> Split:
        return split_documents(documents, self.rng("split", documents.content_hash))

    def _calibrate(self, ref: str, site: str) -> Tensor:
        if isinstance(self.lm, SyntheticLM):
            return self.lm.calibration(site, self.seed)
        captured = self._calibration_text(ref)
        captured.want(site)
        parts: list[Tensor] = []

        def then(shard: slice) -> None:
            rows = slice(shard.start, min(shard.stop, CALIBRATION_SEQUENCES))
            if rows.start < rows.stop:
                positions = Positions.of(captured.batch, rows, torch.device("cpu"))
                parts.append(positions.at_evaluated(captured.activations(site, rows)).float())

        captured.complete(f"calibration at {site}", then)
        return torch.cat(parts)

    def _calibration_text(self, ref: str) -> CapturedText:
        """The sequences that controls are fitted to, or longer ones that begin with them and are captured already."""
        length = min(CALIBRATION_CONTEXT, self._positions())
        try:
            batch = self.calibration_batch(ref, length, CALIBRATION_SEQUENCES)
        except DataError as error:
            raise DataError(
                f"{error} The controls that are fitted (pca, random) need it for their calibration."
            ) from error
        longer = (captured for captured in self._captures.values() if _begins_with(captured.batch, batch))
        return next(longer, None) or self.capture(batch)

    def _batch(self, ref: str, context_length: int, sequences: int) -> TokenBatch:
        self._check_length(context_length)
        batch = tokenize(self.text(ref).evaluation, self.lm.tokenizer, context_length, sequences, self.seed)
        self.lm.check_tokens(batch.tokens)
        if not bool(batch.evaluated[:, 1:].any()):
            raise DataError(
                f"Text {ref!r} gives special tokens only, so there is nothing to evaluate; use a text that the "
                f"tokenizer of {self.lm.name} knows."
            )
        return batch

    def _positions(self) -> int:
        """The number of tokens that the model can read at once, as its configuration says."""
        return int(getattr(self.lm.config.get_text_config(), "max_position_embeddings", None) or sys.maxsize)

    def _check_length(self, context_length: int) -> None:
        if context_length > (positions := self._positions()):
            raise UsageError(f"{self.lm.name} has {positions} positions; context_length={context_length} is too long.")

    def _capture(self, batch: TokenBatch) -> CapturedText:
        batch_size = self.batch_size or pick_batch_size(self.lm, batch.tokens.shape[1], self.budget.passes)
        captured = CapturedText(self.lm, batch, self._cache(), batch_size, self.progress)
        captured.want(*self.sites)
        return captured

    def _examples(self, texts: Sequence[str], context_length: int) -> Examples:
        self._check_length(context_length)
        read = tokenize_examples(texts, self.lm.tokenizer, context_length)
        self.lm.check_tokens(torch.from_numpy(read.tokens))
        examples = Examples(self.lm, read, self._cache(), self.budget.passes, self.progress, self.batch_size)
        examples.want(*self.sites)
        return examples

    def _items(self, items: Sequence[Item]) -> ItemBlocks:
        self._check_length(max((len(item.tokens) for item in items), default=0))
        return ItemBlocks(self.lm, items, self._cache(), self.budget.passes, self.batch_size)

    def _cache(self) -> TensorCache:
        if self.cache is None:
            self.cache = TensorCache(None, memory=self.budget.resident, disk=0)
        return self.cache


def _begins_with(longer: TokenBatch, batch: TokenBatch) -> bool:
    n = len(batch.tokens)
    return (
        longer.tokens.shape[1:] == batch.tokens.shape[1:]
        and torch.equal(longer.tokens[:n], batch.tokens)
        and torch.equal(longer.evaluated[:n], batch.evaluated)
    )
