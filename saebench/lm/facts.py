"""What an SAE may ask about the language model that it is used with."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch

from saebench.lm.model import LanguageModel

_SITE = "blocks.0.hook_resid_post"


@dataclass(frozen=True)
class Facts:
    """Names of a language model, and what it does with the mean of its residual stream."""

    lm: LanguageModel

    @property
    def name(self) -> str:
        """Its reference."""
        return self.lm.name

    @property
    def revision(self) -> str | None:
        """The revision that its reference names."""
        return self.lm.name.partition("@")[2] or None if self.lm.name.startswith("hf:") else None

    def is_called(self, name: str) -> bool:
        """Whether ``name`` is a name of it, whatever its organisation, scheme, revision and case."""
        return _plain(name) in self._names

    @cached_property
    def _names(self) -> frozenset[str]:
        from transformer_lens.supported_models import MODEL_ALIASES

        own = {_plain(self.lm.name), _plain(str(getattr(self.lm.config, "_name_or_path", "") or self.lm.name))}
        aliases = [{_plain(name) for name in (official, *others)} for official, others in MODEL_ALIASES.items()]
        return frozenset(own.union(*(group for group in aliases if group & own)))

    def ignores_mean(self) -> bool:
        """Whether the mean of the residual stream over its dimensions changes nothing that the model computes.

        This holds for models whose norms are all layer norms. It is tried on a few tokens.
        """
        return self._ignores_mean

    @cached_property
    @torch.no_grad()
    def _ignores_mean(self) -> bool:
        lm = self.lm
        tokens = torch.arange(1, 9, device=lm.device)[None] % lm.head.vocab_size
        residual = lm.prefix(tokens, [_SITE])[_SITE]
        before = lm.suffix(tokens, _SITE, residual).float()
        after = lm.suffix(tokens, _SITE, residual + residual.std()).float()
        tolerance = 1e-3 if lm.dtype in (torch.float32, torch.float64) else 3e-2
        return bool((after - before).norm() <= tolerance * before.norm())


def _plain(name: str) -> str:
    """Return the last part of a name, in small letters and without scheme and revision.

    >>> _plain("hf:google/gemma-2-2b@main"), _plain("asset:gemma-3-270m"), _plain("models/GPT2/")
    ('gemma-2-2b', 'gemma-3-270m', 'gpt2')
    """
    return name.partition("@")[0].rstrip("/").replace(":", "/").rpartition("/")[2].lower()
