"""How the next token is drawn: with a temperature, from a nucleus, by a uniform number for each prompt and step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from saebench.errors import UsageError
from saebench.stats import rng

_NUCLEUS = 1024  # the most probable tokens, among which the nucleus is looked for first


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn.

    Each prompt has its own random generator, which is derived from the seed and the prompt's place in the list. So the
    draws depend neither on the size of batches nor on the intervention, and two interventions differ by what they do
    rather than by luck.

    Raises:
        UsageError: The temperature or ``top_p`` is out of its range.
    """

    temperature: float = 1.0
    top_p: float = 1.0  # tokens are drawn from the smallest set with this probability
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise UsageError(f"The temperature must be above 0, not {self.temperature}; leave it out for greedy text.")
        if not 0 < self.top_p <= 1:
            raise UsageError(f"top_p must be above 0 and at most 1, not {self.top_p}.")


class Draw:
    """Draws the next token of each row: the quantile, in the order of token ids, at a uniform number.

    Rows of the same prompt share their uniform numbers, so rows whose probabilities are almost the same nearly always
    draw the same token.
    """

    def __init__(self, sampling: Sampling, prompts: Sequence[int]) -> None:
        """Begin with the first token. ``prompts`` holds the number of each row's prompt."""
        self._sampling = sampling
        distinct = list(dict.fromkeys(prompts))
        self._rows = torch.tensor([distinct.index(number) for number in prompts])
        drawn = (rng.generator(sampling.seed, "sample", rng.NO_CONTENT, number) for number in distinct)
        seeds = [int(generator.integers(2**63)) for generator in drawn]
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __call__(self, logits: Float[Tensor, "rows vocabulary"]) -> Int[Tensor, " rows"]:
        """Return the next token of each row."""
        drawn = [torch.rand((), generator=generator, dtype=torch.float64) for generator in self._generators]
        uniform = torch.stack(drawn)[self._rows].to(logits.device)
        return draw(logits.float() / self._sampling.temperature, self._sampling.top_p, uniform)


def draw(
    logits: Float[Tensor, "rows vocabulary"], top_p: float, uniform: Float[Tensor, " rows"]
) -> Int[Tensor, " rows"]:
    """Return the token at which the cumulative probability of the nucleus passes ``uniform``, in order of token ids."""
    if top_p == 1:
        return _quantile(logits.softmax(-1), uniform)
    token = torch.empty(len(logits), dtype=torch.long, device=logits.device)
    for rows, mass, ids in nucleus(logits, top_p):
        token[rows] = ids.gather(1, _quantile(mass, uniform[rows])[:, None])[:, 0]
    return token


def nucleus(
    logits: Float[Tensor, "rows vocabulary"], top_p: float
) -> Iterator[tuple[Int[Tensor, " some"], Float[Tensor, "some candidates"], Int[Tensor, "some candidates"]]]:
    """Yield some rows at a time, with the probabilities of their candidate tokens and the ids of these, in order.

    The nucleus is the smallest set of most probable tokens that together have the probability ``top_p`` (arXiv
    1904.09751), as in transformers' TopPLogitsWarper. Candidates outside it get probability 0. TopPLogitsWarper sorts
    the whole vocabulary, which takes longer than the model for 262,144 tokens. Here, the few rows whose nucleus has
    more than 1024 tokens are tried again with more candidates.
    """
    total = logits.logsumexp(-1, keepdim=True)
    rows, candidates = torch.arange(len(logits), device=logits.device), _NUCLEUS
    while len(rows):
        candidates = min(candidates, logits.shape[1])
        top, ids = logits[rows].topk(candidates)
        p = torch.exp(top - total[rows])
        kept = p.cumsum(-1) - p < top_p
        enough = ~kept[:, -1] | (candidates == logits.shape[1])
        ids, order = ids[enough].sort(-1)
        yield rows[enough], (p * kept)[enough].gather(1, order), ids
        rows, candidates = rows[~enough], 16 * candidates


def _quantile(mass: Float[Tensor, "rows candidates"], uniform: Float[Tensor, " rows"]) -> Int[Tensor, " rows"]:
    """Return the place at which the cumulative share of ``mass`` passes ``uniform``."""
    cumulative = mass.cumsum(-1, dtype=torch.float64)
    place = torch.searchsorted(cumulative, uniform[:, None] * cumulative[:, -1:], right=True)
    return place.clamp(max=mass.shape[1] - 1)[:, 0]
