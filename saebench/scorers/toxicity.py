"""The toxicity of texts, by a small classifier that is always installed, or by Detoxify, an extra.

Both know words better than meanings: they take swearing for toxicity, and they miss hatred in polite words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, cached_property, partial
from importlib.metadata import version
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from saebench.errors import AssetError, UsageError, did_you_mean

_BATCH = 32  # the texts that Detoxify scores at a time


class ToxicityScorer(Protocol):
    """Scores the toxicity of texts."""

    @property
    def name(self) -> str:
        """The name by which `toxicity_scorer` returns it."""
        ...

    @property
    def version(self) -> str:
        """The package and its version, which are part of what is measured."""
        ...

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Return the toxicity of each text, from 0 to 1; it is 0 for a blank text."""
        ...


def toxicity_scorer(name: str) -> ToxicityScorer:
    """Return the scorer called ``profanity-check``, ``detoxify:original`` or ``detoxify:unbiased``.

    The same name gives the same object, whose model is loaded when it is first used.

    Raises:
        UsageError: There is no such scorer, or its package is not installed.
    """
    if name not in _BUILDERS:
        raise UsageError(
            f"There is no toxicity scorer {name!r}. The known ones are {', '.join(_BUILDERS)}."
            f"{did_you_mean(name, _BUILDERS)}"
        )
    return _built(name)


@cache
def _built(name: str) -> ToxicityScorer:
    return _BUILDERS[name]()


class ProfanityCheck:
    """The probability of profanity by a linear classifier of word counts, which was trained on comments and tweets."""

    name = "profanity-check"

    @property
    def version(self) -> str:
        return f"alt-profanity-check {version('alt-profanity-check')}"

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Return the toxicity of each text, from 0 to 1."""
        return _without_blank(texts, lambda not_blank: self._predict(not_blank))

    @cached_property
    def _predict(self) -> Callable[[list[str]], NDArray[np.float64]]:
        from profanity_check import predict_prob  # the import loads the model

        return predict_prob


class DetoxifyScorer:
    """The probability of toxicity by Detoxify, whose weights are downloaded when they are first used."""

    def __init__(self, kind: str) -> None:
        """Choose the model ``original`` or ``unbiased``. Raises UsageError if Detoxify is not installed."""
        try:
            import detoxify  # noqa: F401
        except ImportError as error:
            raise UsageError("Toxicity by Detoxify needs the extra 'detox': pip install 'saebench[detox]'.") from error
        self.kind, self.name = kind, f"detoxify:{kind}"

    @property
    def version(self) -> str:
        return f"detoxify {version('detoxify')}"

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Return the toxicity of each text. Raises AssetError if the weights are missing and cannot be fetched."""
        return _without_blank(texts, self._score)

    def _score(self, texts: list[str]) -> NDArray[np.float64]:
        batches = (texts[start : start + _BATCH] for start in range(0, len(texts), _BATCH))
        return np.concatenate([self._model.predict(batch)["toxicity"] for batch in batches])

    @cached_property
    def _model(self) -> Any:
        import torch
        from detoxify import Detoxify

        try:
            return Detoxify(self.kind, device="cuda" if torch.cuda.is_available() else "cpu")
        except OSError as error:
            raise AssetError(
                f"The weights of {self.name} could not be fetched ({str(error).splitlines()[0][:200]}); "
                "score once while there is a network, or use profanity-check."
            ) from error


def _without_blank(texts: Sequence[str], score: Callable[[list[str]], NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return the scores of texts, with 0 for blank ones, to which classifiers would give an average score."""
    not_blank = np.array([bool(text.strip()) for text in texts], dtype=bool)
    out = np.zeros(len(texts))
    if not_blank.any():
        out[not_blank] = score([text for text in texts if text.strip()])
    return out


_BUILDERS: dict[str, Callable[[], ToxicityScorer]] = {
    "profanity-check": ProfanityCheck,
    "detoxify:original": partial(DetoxifyScorer, "original"),
    "detoxify:unbiased": partial(DetoxifyScorer, "unbiased"),
}
