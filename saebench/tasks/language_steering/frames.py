"""Frames: how a sentence of the source language is put to the model, and where the model's answer ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from saebench.tasks.language_steering.settings import FrameName

Shots = Sequence[dict[str, str]]  # rows of the training split, {language: sentence}


@dataclass(frozen=True)
class Frame:
    """A prompt without the target language, so that an answer in that language is the intervention's doing.

    ``prompt(sentence, source, shots, turn)`` returns the text that the model continues. ``turn`` is the number of the
    sentence: a frame that shows other languages goes through them from turn to turn, so that it favours none.
    """

    prompt: Callable[[str, str, Shots, int], str]
    stop: str = "\n"

    def answer(self, continuation: str) -> str:
        """Return the continuation's first line that is not empty, up to ``stop``; "" if there is none."""
        return continuation.lstrip().split(self.stop)[0].split("\n")[0].strip()


def _line(sentence: str, source: str, shots: Shots, turn: int) -> str:
    return f"{sentence}\n"


def _half(sentence: str, source: str, shots: Shots, turn: int) -> str:
    words = sentence.split()
    return " ".join(words[: max(1, len(words) // 2)])


def _copy(sentence: str, source: str, shots: Shots, turn: int) -> str:
    return "".join(f"{row[source]}\n{row[source]}\n\n" for row in shots) + f"{sentence}\n"


def _mixed(sentence: str, source: str, shots: Shots, turn: int) -> str:
    before = ""
    for number, row in enumerate(shots):
        others = [language for language in row if language != source]
        before += f"{row[source]}\n{row[others[(turn * len(shots) + number) % len(others)]]}\n\n"
    return f"{before}{sentence}\n"


def _quotes(sentence: str, source: str, shots: Shots, turn: int) -> str:
    return f'"{sentence}" = "'


FRAMES: dict[FrameName, Frame] = {
    "line": Frame(_line),  # the sentence and a new line
    "half": Frame(_half),  # the first half of the sentence's words
    "copy": Frame(_copy),  # the sentence, after others that are each written twice: the model repeats it
    "mixed": Frame(_mixed),  # the sentence, after translations, each into another language
    "quotes": Frame(_quotes, stop='"'),  # "sentence" = "
}
