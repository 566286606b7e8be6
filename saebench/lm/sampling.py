"""How a next token is drawn: temperature, nucleus, and a uniform number for each prompt and step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from saebench.errors import UsageError
from saebench.stats import rng

_NUCLEUS = 1024  # candidates for the nucleus, before all tokens are


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn. Each prompt has a generator of its own, derived from ``seed`` and its place in the list.

    So the draws depend neither on the size of batches nor on the intervention: two interventions differ by what they
    do, not by luck. Raises UsageError for values that make no distribution.
    """

    temperature: float = 1.0
    top_p: float = 1.0  # the smallest set of tokens with this probability is drawn from
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.temperature > 0:
            raise UsageError(f"The temperature must be above 0, not {self.temperature}; leave it out for greedy text.")
        if not 0 < self.top_p <= 1:
            raise UsageError(f"top_p must lie above 0 and at most at 1, not {self.top_p}.")


class Draw:
    """The quantile of each row's uniform number, tokens in order of their ids.

    The numbers of a row are those of its prompt, so that rows of the same prompt share them, and rows whose
    probabilities are nearly the same draw the same token nearly always.
    """

    def __init__(self, sampling: Sampling, prompts: Sequence[int]) -> None:
        """``prompts`` holds the number of each row's prompt."""
        self._sampling = sampling
        distinct = list(dict.fromkeys(prompts))
        self._rows = torch.tensor([distinct.index(number) for number in prompts])
        seeds = [int(rng.generator(sampling.seed, f"sample:{number}").integers(2**63)) for number in distinct]
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __call__(self, logits: Float[Tensor, "rows vocabulary"]) -> Int[Tensor, " rows"]:
        """The next token of each row."""
        drawn = [torch.rand((), generator=generator, dtype=torch.float64) for generator in self._generators]
        uniform = torch.stack(drawn)[self._rows].to(logits.device)
        return draw(logits.float() / self._sampling.temperature, self._sampling.top_p, uniform)


def draw(
    logits: Float[Tensor, "rows vocabulary"], top_p: float, uniform: Float[Tensor, " rows"]
) -> Int[Tensor, " rows"]:
    """The token at which the cumulative probability of the nucleus, in order of token ids, passes ``uniform``."""
    if top_p == 1:
        return _quantile(logits.softmax(-1), uniform)
    token = torch.empty(len(logits), dtype=torch.long, device=logits.device)
    for rows, mass, ids in nucleus(logits, top_p):
        token[rows] = ids.gather(1, _quantile(mass, uniform[rows])[:, None])[:, 0]
    return token


def nucleus(
    logits: Float[Tensor, "rows vocabulary"], top_p: float
) -> Iterator[tuple[Int[Tensor, " some"], Float[Tensor, "some candidates"], Int[Tensor, "some candidates"]]]:
    """Rows, with probability and id of candidates in order of their ids; 0 for those outside the nucleus.

    The nucleus is the smallest set of most probable tokens that has the probability ``top_p`` (1904.09751), as in
    transformers' TopPLogitsWarper. That one sorts the vocabulary: with 262,144 tokens it takes longer than the model.
    Few rows need more than a thousand candidates; these are asked again.
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
    """The place at which the cumulative share of ``mass`` passes ``uniform``."""
    cumulative = mass.cumsum(-1, dtype=torch.float64)
    place = torch.searchsorted(cumulative, uniform[:, None] * cumulative[:, -1:], right=True)
    return place.clamp(max=mass.shape[1] - 1)[:, 0]
