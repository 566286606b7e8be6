"""Identification of the language of a text, by py3langid, which is always installed, or by lingua, an extra."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from functools import cache
from importlib.metadata import version
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from saebench.errors import UsageError, did_you_mean

UNDETERMINED = "und"  # the ISO 639-2 code that a text without a letter gets


class LanguageIdentifier(Protocol):
    """Tells the language of texts."""

    @property
    def name(self) -> str:
        """The name by which `language_identifier` returns it."""
        ...

    @property
    def version(self) -> str:
        """The package and its version, which are part of what is measured."""
        ...

    def __call__(self, texts: Sequence[str]) -> list[str]:
        """Return the language of each text (ISO 639-1), or ``und`` for a text without a letter."""
        ...

    def probabilities(self, texts: Sequence[str], languages: Sequence[str]) -> NDArray[np.float64]:
        """Return the probability that each text is in each of ``languages``, ``[texts, languages]``.

        A row sums to 1 if ``languages`` are all languages that the identifier chooses from. It is 0 for a text without
        a letter.

        Raises:
            UsageError: The identifier does not know one of the languages.
        """
        ...


def language_identifier(name: str, languages: Sequence[str] = ()) -> LanguageIdentifier:
    """Return a language identifier.

    Args:
        name: ``py3langid`` or ``lingua``.
        languages: The languages (ISO 639-1) to choose from; if empty, all that the identifier knows.

    Raises:
        UsageError: The identifier is unknown or not installed, or does not know one of the languages.
    """
    if name not in _BUILDERS:
        raise UsageError(
            f"There is no language identifier {name!r}. The known ones are {', '.join(_BUILDERS)}."
            f"{did_you_mean(name, _BUILDERS)}"
        )
    return _BUILDERS[name](languages)


class _Identifier:
    """The common base of the identifiers, which rank the languages of each text."""

    name: str
    version: str

    def __init__(self, known: Sequence[str], languages: Sequence[str]) -> None:
        self.known = sorted(known)
        self._require(languages)
        self.languages = list(languages) or self.known

    def __call__(self, texts: Sequence[str]) -> list[str]:
        """Return the language of each text (ISO 639-1), or ``und`` for a text without a letter."""
        return [max(ranks, key=ranks.__getitem__) if (ranks := self._of(text)) else UNDETERMINED for text in texts]

    def probabilities(self, texts: Sequence[str], languages: Sequence[str]) -> NDArray[np.float64]:
        """Return the probability that each text is in each of ``languages``, ``[texts, languages]``."""
        self._require(languages)
        rows = [[ranks.get(language, 0.0) for language in languages] for ranks in map(self._of, texts)]
        return np.array(rows, dtype=np.float64).reshape(len(texts), len(languages))

    def _of(self, text: str) -> dict[str, float]:
        """Return the probability of each language, or nothing for a text without a letter."""
        return self._ranked(text) if any(map(str.isalpha, text)) else {}

    def _ranked(self, text: str) -> dict[str, float]:
        """Return the probability of each language for a text with letters."""
        raise NotImplementedError

    def _require(self, languages: Sequence[str]) -> None:
        for language in languages:
            if language not in self.known:
                raise UsageError(
                    f"{self.name} does not know the language {language!r} (ISO 639-1 codes, such as en or zh)."
                    f"{did_you_mean(language, self.known)}"
                )


class Py3LangID(_Identifier):
    """py3langid, a naive Bayes classifier of byte n-grams, which needs no network."""

    name = "py3langid"

    def __init__(self, languages: Sequence[str] = ()) -> None:
        self.version = f"py3langid {version('py3langid')}"
        self._model = copy(_py3langid_model())  # a copy, because its languages are set below
        super().__init__(self._model.labels, languages)
        self._model.set_languages(self.languages)

    def _ranked(self, text: str) -> dict[str, float]:
        return dict(self._model.rank(text))


@cache
def _py3langid_model() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


class Lingua(_Identifier):
    """lingua, which uses rules and n-grams of characters and is better on short texts."""

    name = "lingua"

    def __init__(self, languages: Sequence[str] = ()) -> None:
        try:
            from lingua import IsoCode639_1, Language, LanguageDetectorBuilder
        except ImportError as error:
            raise UsageError(
                "Language identification by lingua needs the extra 'lingua': pip install 'saebench[lingua]'."
            ) from error
        self.version = f"lingua-language-detector {version('lingua-language-detector')}"
        super().__init__([language.iso_code_639_1.name.lower() for language in Language.all()], languages)
        codes = [getattr(IsoCode639_1, language.upper()) for language in self.languages]
        self._model: Any = LanguageDetectorBuilder.from_iso_codes_639_1(*codes).build()

    def _ranked(self, text: str) -> dict[str, float]:
        confidences = self._model.compute_language_confidence_values(text)
        return {confidence.language.iso_code_639_1.name.lower(): confidence.value for confidence in confidences}


_BUILDERS: dict[str, Callable[[Sequence[str]], LanguageIdentifier]] = {"py3langid": Py3LangID, "lingua": Lingua}
