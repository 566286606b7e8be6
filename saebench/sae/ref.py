"""A reference to an SAE as schemes see it; parsing one needs all schemes (`saebench.sae.reference`)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote

from saebench.sae.hook import HookSite

if TYPE_CHECKING:
    from saebench.sae.base import LoadContext
    from saebench.sae.protocol import SAE


@dataclass(frozen=True)
class Reference(ABC):
    """A parsed reference. ``str()`` gives its canonical form, which parses to an equal reference.

    Its scheme answers the questions about it (`saebench.sae.scheme.Scheme` documents the answers).
    """

    scheme: str
    body: str
    options: tuple[tuple[str, str], ...] = field(default=())  # as text, sorted by key

    def __str__(self) -> str:
        query = "&".join(f"{quote(key, safe='')}={quote(value, safe='')}" for key, value in self.options)
        return f"{self.scheme}:{self.body}" + (f"?{query}" if query else "")

    @property
    @abstractmethod
    def inner(self) -> Reference | None:
        """The reference inside ``permuted-decoder(REF)``, or inside another wrapper of the scheme."""

    @property
    @abstractmethod
    def control(self) -> str | None:
        """The kind of baseline, such as ``permuted-decoder``; None for other SAEs."""

    @property
    @abstractmethod
    def derived(self) -> bool:
        """Whether the SAE is made from the language model when it is loaded."""

    @property
    @abstractmethod
    def fitted(self) -> bool:
        """Whether the SAE is fitted to activations when it is loaded."""

    @property
    @abstractmethod
    def hook_for_controls(self) -> str | None:
        """The hook point that controls in the same run take by default, where the scheme suggests one."""

    @property
    @abstractmethod
    def width(self) -> int | None:
        """The width of what the SAE reads, or None where only loading tells it."""

    @abstractmethod
    def site(self, default: str | None) -> HookSite | None:
        """The hook that loading would give, or None where only loading tells it.

        It is None, too, for an SAE that cannot be loaded (a broken folder), and need not exist in the language model.
        ``default`` is the hook point of controls that name none.
        """

    @abstractmethod
    def load(self, context: LoadContext) -> SAE:
        """Load the SAE on ``context.device`` and check it against the language model, if the context has one.

        Raises SAELoadError and HookMismatchError.
        """
