"""What a scheme is: one kind of reference to SAEs, such as ``zoo:`` or ``sae_lens:``, and how its SAEs are loaded.

A package adds a scheme by an entry point in the group ``saebench.saes``; `saebench.sae.registry` says how. Modules
that declare a scheme must be cheap to import: they import torch, and the library of the SAEs, only inside ``load``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from saebench.sae.hook import HookSite
from saebench.sae.options import Option

if TYPE_CHECKING:
    from saebench.sae.base import LoadContext
    from saebench.sae.protocol import SAE
    from saebench.sae.ref import Reference


@dataclass(frozen=True)
class Form:
    """One way to write the body of a reference, for ``saebench saes`` and for error messages.

    Attributes:
        body: The body with its variable parts in capitals, such as ``RELEASE/ID``.
        description: What the reference names, in one line.
        options: The options that it takes, by their names.
        control: Whether it names a baseline.
    """

    body: str
    description: str
    options: Mapping[str, Option] = field(default_factory=dict)
    control: bool = False


class Scheme(ABC):
    """One kind of reference: ``NAME:BODY``, or ``NAME:BODY?key=value&key=value``.

    ``validate`` and ``load`` are all that most schemes need. The other methods answer what a plan asks before anything
    is loaded; by default a scheme names SAEs whose weights exist already and of which only loading tells the rest.

    Attributes:
        name: The scheme, which a reference begins with.
        forms: The ways to write a reference.
        wrappers: The names W of bodies ``W(REF)`` that hold another reference. That one is parsed, checked and given
            its canonical form before ``validate`` is called, and is ``ref.inner``.
        runs_code: Whether a reference names code that loading runs, as ``python:`` does. A config file may name such a
            reference only if the user allows it on the command line.
        reads_files: Whether the body names a folder or file of weights on this machine.
    """

    name: str
    forms: tuple[Form, ...] = ()
    wrappers: frozenset[str] = frozenset()
    runs_code: bool = False
    reads_files: bool = False

    @abstractmethod
    def validate(self, ref: Reference) -> None:
        """Raise UsageError for whatever is wrong with ``ref`` and can be known without loading anything."""

    @abstractmethod
    def load(self, ref: Reference, context: LoadContext) -> SAE:
        """Return the SAE. Raises SAELoadError when it cannot be loaded, or lacks what it needs of ``context``."""

    def site(self, ref: Reference, default: str | None) -> HookSite | None:
        """Return the hook that ``load`` would give, or None where only loading tells it.

        Args:
            ref: A validated reference.
            default: The hook point of SAEs that name none.
        """
        return None

    def width(self, ref: Reference) -> int | None:
        """Return the width of what the SAE reads, or None where only loading tells it."""
        return None

    def control(self, ref: Reference) -> str | None:
        """Return the kind of baseline that ``ref`` names, as ``without_controls`` of a task's card has it, or None."""
        return None

    def derived(self, ref: Reference) -> bool:
        """Return whether loading makes the SAE from the language model, its activations and the seed.

        The runner then derives the fingerprint from these and the reference, without making the SAE.
        """
        return False

    def fitted(self, ref: Reference) -> bool:
        """Return whether loading fits the SAE to activations. Only then does a run pass ``calibration``."""
        return False

    def remote(self, ref: Reference) -> bool:
        """Return whether loading ``ref`` needs the network, unless `prefetch` was called before."""
        return False

    def prefetch(self, ref: Reference) -> str:
        """Fetch what loading ``ref`` needs from the network, and return what it was, such as a commit.

        Raises SAELoadError when it cannot be fetched.
        """
        return ""

    def hook_for_controls(self, ref: Reference) -> str | None:
        """Return the hook point for the controls of a run that holds ``ref``, if this scheme suggests one."""
        return None


class Schemes(Protocol):
    """The schemes by name, as a scheme asks for others: `saebench.sae.registry.SchemeRegistry`."""

    def names(self) -> list[str]:
        """Return the names of all schemes."""
        ...

    def file_formats(self) -> list[str]:
        """Return the names of the schemes whose references name files."""
        ...

    def get(self, name: str) -> Scheme:
        """Return a scheme. Raises UsageError when there is none of this name, or when it is broken."""
        ...
