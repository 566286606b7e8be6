"""The tables and lists of docs/adapters.md, from the registries, the maps and the measured parity. Imports no torch."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable, Iterable
from typing import Any

from tabulate import tabulate

from benchmarks.parity.formats import FORMATS, Format, examples_of, source_of
from benchmarks.record import BenchmarkResult
from saebench.cards.card import TaskCard
from saebench.cards.registry import registry
from saebench.sae.affine import map as maps
from saebench.sae.registry import scheme_registry
from saebench.sae.scheme import Scheme

WIDTH = 120
TOLERANCE = 1e-5  # the largest difference that rounding to float32 explains
_CLASSES = {
    maps.FormatMap: "The map",
    maps.Tensor: "A tensor, in place of `KEY` or `KEY.T`",
    maps.ActivationRule: "`activation`",
    maps.Scale: "`scale`",
    maps.NormalisationRule: "`normalisation`",
    maps.HookRule: "A rule in `hooks`",
    maps.Source: "A value that is read from the files",
    maps.When: "A condition",
    maps.Refusal: "An entry of `refused`",
}
_NEEDS = {
    "linear_decoder": "a decoder that is one matrix",
    "non_negative": "latents that are never negative",
    "position_wise": "latents that depend on one token alone",
    "encoder_directions": "one direction for each latent that it reads",
    "sparse_encode": "codes as values and indices",
}


def formats(result: BenchmarkResult) -> str:
    """The formats that load, each with a reference to copy."""
    lines = []
    for number, form in enumerate(FORMATS, start=1):
        inside = " " * len(f"{number}. ")
        examples = [f"`{example}`, {_title(name)}" for name, example in examples_of(form).items()]
        if len(examples) == 1:
            lines.append(f"{number}. **{form.name}**: {examples[0]}")
        else:
            lines.append(f"{number}. **{form.name}**{':' if examples else ' does not load; see below.'}")
            lines += [f"{inside}- {example}" for example in examples]
    proven = sum(_proven(form, result) for form in FORMATS)
    counted = f"saebench loads {proven} of these {len(FORMATS)} formats, each with the differences that stand below."
    return "\n".join([*_wrapped(counted), "", *(line for text in lines for line in _wrapped(text))])


def missing(result: BenchmarkResult) -> str:
    """The formats that do not load, or not as a whole, with the reason."""
    texts = [
        f"- **{form.name}**{'' if form.schemes else ' does not load'}: {form.note}" for form in FORMATS if form.note
    ]
    return "\n".join(line for text in texts for line in _wrapped(text))


def parity(result: BenchmarkResult) -> str:
    """The largest differences and the tasks, for each scheme and architecture."""
    letters = _letters(result)
    rows = []
    for name in _file_schemes():
        numbers = ", ".join(str(n) for n, form in enumerate(FORMATS, start=1) if name in form.schemes)
        measured = [m for m in result.measurements if m["scheme"] == name]
        if not measured:
            rows.append([numbers, f"`{name}:`", "not measured yet", "", "", ""])
        for architecture in dict.fromkeys(m["architecture"] for m in measured):
            cases = [m for m in measured if m["architecture"] == architecture]
            tasks = ", ".join(sorted({letters[_applicable(m, result)] for m in cases}))
            gaps = [_gaps(cases, kind) for kind in ("formula", "library")]
            rows.append([numbers, f"`{name}:`", architecture, *gaps, tasks])
    headers = ["no.", "reference", "architecture", "formula", "library", "tasks"]
    return tabulate(rows, headers, tablefmt="pipe", disable_numparse=True)


def tasks(result: BenchmarkResult) -> str:
    """A list that says, for each letter in the column ``tasks``, which tasks it stands for."""
    texts = []
    for applicable, letter in _letters(result).items():
        cards = [card for card in _cards() if card.name not in applicable]
        if not cards:
            texts.append(f"- **{letter}**: all {len(applicable)} tasks.")
            continue
        named = ", ".join(f"`{card.name}`" for card in _cards() if card.name in applicable)
        texts.append(f"- **{letter}**: {named}. {_why(applicable, cards, result)}")
    return "\n".join(line for text in texts for line in _wrapped(text))


def sources(result: BenchmarkResult) -> str:
    """Where each formula was read, and whose forward pass was run."""
    texts = []
    for name in _file_schemes():
        against = [a for m in result.measurements if m["scheme"] == name for a in m["against"]]
        libraries = dict.fromkeys(f"{a['source']} {a['version']}" for a in against if a["kind"] == "library")
        run = f"; forward pass of {', '.join(libraries)}" if libraries else ""
        texts.append(f"- `{name}:` {source_of(name)}{run}")
    return "\n".join(line for text in texts for line in _wrapped(text))


def made(result: BenchmarkResult) -> str:
    """When and on which machine the differences were measured."""
    versions = ", ".join(f"{name} {result.versions[name]}" for name in ("saebench", "torch", "sae-lens"))
    text = f"*Measured on {result.created:%Y-%m-%d} on {result.hardware['device']}, with {versions}.*"
    return "\n".join(_wrapped(text))


def fields(result: BenchmarkResult) -> str:
    """The fields of maps, from the docstrings of their classes."""
    parts = []
    for kind, title in _CLASSES.items():
        items = [f"- `{name}`: {text[0].lower()}{text[1:]}" for name, text in _attributes(kind)]
        parts.append("\n".join([f"**{title}**", "", *(line for item in items for line in _wrapped(item))]))
    return "\n\n".join(parts)


BLOCKS: dict[str, Callable[[BenchmarkResult], str]] = {
    block.__name__: block for block in (formats, missing, parity, tasks, sources, made, fields)
}


def _file_schemes() -> list[str]:
    """The schemes of saebench that name a format, in the order of `FORMATS`; those that are not there come last."""
    own = [name for name in scheme_registry().file_formats() if name != "file"]
    listed = [name for form in FORMATS for name in form.schemes if name in own]
    return list(dict.fromkeys([*listed, *own]))


def _proven(form: Format, result: BenchmarkResult) -> bool:
    """Whether all schemes of a format were measured, and nothing more than rounding was found."""
    gaps = {
        name: [max(a["z"], a["xhat"]) for m in result.measurements if m["scheme"] == name for a in m["against"]]
        for name in form.schemes
    }
    return bool(gaps) and all(values and max(values) < TOLERANCE for values in gaps.values())


def _title(name: str) -> str:
    scheme: Scheme = scheme_registry().get(name)
    return scheme.forms[0].description


def _gaps(cases: list[dict[str, Any]], kind: str) -> str:
    against = [a for m in cases for a in m["against"] if a["kind"] == kind]
    return ", ".join(_short(max(a[key] for a in against)) for key in ("z", "xhat")) if against else "none"


def _short(value: float) -> str:
    return f"{value:.0e}".replace("e-0", "e-") if value else "0"


def _cards() -> list[TaskCard]:
    """The cards of the built-in tasks on language models; tasks of plug-ins differ between machines."""
    own = [entry.card for entry in registry().entries() if entry.origin == "saebench" and entry.card is not None]
    return [card for card in own if card.model == "language"]


def _applicable(measured: dict[str, Any], result: BenchmarkResult) -> frozenset[str]:
    """The tasks that measure an SAE, by the rule of the runner."""
    several = result.settings["several_sites"] if measured["several_sites"] else None
    return frozenset(
        card.name
        for card in _cards()
        if set(map(str, card.needs)) <= set(measured["capabilities"]) and (several is None or card.name in several)
    )


def _letters(result: BenchmarkResult) -> dict[frozenset[str], str]:
    """A letter for each set of tasks that measure some SAE, the largest set first."""
    sets = sorted({_applicable(m, result) for m in result.measurements}, key=lambda names: (-len(names), sorted(names)))
    return {names: chr(ord("A") + number) for number, names in enumerate(sets)}


def _why(applicable: frozenset[str], cards: Iterable[TaskCard], result: BenchmarkResult) -> str:
    measured = [m for m in result.measurements if _applicable(m, result) == applicable]
    if all(m["several_sites"] for m in measured):
        return "The others are defined for one hook point."
    needed = {str(need) for card in cards for need in card.needs}
    lacking = sorted(needed.difference(*(m["capabilities"] for m in measured)))  # what none of these SAEs has
    return f"The others need {' and '.join(_NEEDS.get(need, need) for need in lacking)}."


def _attributes(kind: type) -> list[tuple[str, str]]:
    """The names and texts of the section ``Attributes:`` of a docstring."""
    section = (inspect.getdoc(kind) or "").partition("Attributes:\n")[2]
    entries = re.findall(r"^ {4}(\w+): (.*(?:\n {8}.*)*)", section, re.MULTILINE)
    return [(name, re.sub(r"\s+", " ", text).replace("``", "`")) for name, text in entries]


def _wrapped(text: str) -> list[str]:
    """Break a line of a page; what goes on below an item of a list is indented as the item is."""
    item = re.match(r"\s*(?:- |\d+\. )?", text)
    assert item is not None, "the pattern matches an empty text, too"
    inside = " " * len(item[0])
    return textwrap.wrap(text, WIDTH, subsequent_indent=inside, break_long_words=False, break_on_hyphens=False)
