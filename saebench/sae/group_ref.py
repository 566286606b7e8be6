"""References to groups of SAEs: ``NAME=REF,REF,...``, or only the name of a predefined group.

A comma inside parentheses belongs to a reference; elsewhere it is written ``%2C``, in the name of a folder as well as
in the value of an option. A folder whose name holds ``%2C`` or ``%25`` is written with ``%25`` in place of its ``%``.
Parsing loads nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from urllib.parse import unquote

from saebench.errors import UsageError, did_you_mean
from saebench.sae.reference import SAERef, parse_sae_ref
from saebench.sae.zoo import zoo_groups, zoo_names

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_ESCAPED = re.compile("%(?=2C|25)", re.IGNORECASE)
# Untrained directions in as many seeds as the zoo has: they show how many latents agree between seeds by chance.
_RANDOM = tuple(f"baseline:random?d_sae=2048&l0=32&seed={seed}" for seed in range(3))
_SMALL_AND_LARGE = ("topk-k32-s0", "topk-k64-s0")


@dataclass(frozen=True)
class SAEGroupRef:
    """A parsed reference to a group. ``str()`` gives its canonical form, which parses to an equal reference."""

    name: str
    members: tuple[SAERef, ...]  # two or more, in the user's order

    def __str__(self) -> str:
        return f"{self.name}={','.join(map(written_in_group, self.members))}"


def written_in_group(member: SAERef | str) -> str:
    """Return a reference as it stands in a group, where a comma outside parentheses would end it."""
    return _outside(str(member), lambda text: _ESCAPED.sub("%25", text).replace(",", "%2C"))


def _read_from_group(text: str) -> str:
    """Return the reference that stands in a group; the values of its options are decoded when it is parsed."""
    return _outside(text, lambda part: re.sub("%2c|%25", lambda code: unquote(code[0]), part, flags=re.IGNORECASE))


def _outside(text: str, change: Callable[[str], str]) -> str:
    """Change what is outside parentheses, and before the options, of a reference."""
    changed, start, depth = [], 0, 0
    for position, character in enumerate(text):
        if depth == 0 and character in "(?":
            changed.append(change(text[start:position]))
            start = position
            if character == "?":
                return "".join(changed) + text[start:]
        depth = max(depth + (character == "(") - (character == ")"), 0)
        if depth == 0 and character == ")":
            changed.append(text[start : position + 1])
            start = position + 1
    return "".join(changed) + (text[start:] if depth else change(text[start:]))


def predefined_groups() -> dict[str, SAEGroupRef]:
    """The groups that saebench defines, by name: those of `seed_groups` and `size_groups`."""
    return {group.name: group for group in (*seed_groups(), *size_groups())}


def seed_groups() -> list[SAEGroupRef]:
    """The groups whose members differ only in their seed: those of the zoo, and a control of random directions."""
    zoo = {name: tuple(f"zoo:{member}" for member in members) for name, members in zoo_groups().items()}
    return [_group(name, refs) for name, refs in {**zoo, "random": _RANDOM}.items()]


def size_groups() -> list[SAEGroupRef]:
    """The groups of a small and a large SAE. In the zoo these have few and many active latents."""
    if not set(_SMALL_AND_LARGE) <= set(zoo_names()):
        return []
    return [_group("zoo-sparsity", tuple(f"zoo:{name}" for name in _SMALL_AND_LARGE))]


def parse_sae_group(text: str) -> SAEGroupRef:
    """Parse ``NAME=REF,REF,...`` or the name of a predefined group.

    Raises UsageError for a missing name, an unknown group, a bad reference, fewer than two SAEs, or one SAE twice.
    """
    name, equals, references = (part.strip() for part in text.partition("="))
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"SAE group {text!r} must begin with a name of letters, digits, '.', '_' and '-': NAME=REF,REF."
        )
    if not equals:
        known = predefined_groups()
        if name not in known:
            raise UsageError(
                f"There is no SAE group {name!r}.{did_you_mean(name, known)} Known are {', '.join(known)}; "
                "write NAME=REF,REF to define a group of your own."
            )
        return known[name]
    return _group(name, tuple(map(_read_from_group, _split(references))))


def _group(name: str, references: tuple[str, ...]) -> SAEGroupRef:
    members = tuple(parse_sae_ref(reference) for reference in references)
    if len(members) < 2:
        raise UsageError(f"SAE group {name!r} has one SAE; a group needs two SAEs or more: {name}=REF,REF.")
    for number, member in enumerate(members):
        if member in members[:number]:
            raise UsageError(f"SAE group {name!r} names {member} twice; its SAEs must differ.")
    return SAEGroupRef(name, members)


def _split(references: str) -> Iterator[str]:
    """Split at the commas outside parentheses."""
    start = depth = 0
    for position, character in enumerate(references):
        depth = max(depth + (character == "(") - (character == ")"), 0)
        if character == "," and depth == 0:
            yield references[start:position].strip()
            start = position + 1
    yield references[start:].strip()
