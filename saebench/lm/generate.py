"""Continuations of prompts, greedy or sampled, with a KV cache, and under an intervention if one is wanted."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from saebench.errors import UsageError
from saebench.lm.batching import for_batches
from saebench.lm.intervene import Intervention, Repeated, intervening
from saebench.lm.kv import Growing, Prefix, can_share
from saebench.lm.model import LanguageModel
from saebench.lm.sampling import Draw, Sampling


def generate(
    lm: LanguageModel,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    intervention: Intervention | None = None,
    sampling: Sampling | None = None,
    batch_size: int = 16,
) -> list[list[int]]:
    """Return the tokens that follow each prompt, up to the end-of-text token, which is left out; they may be none.

    Batches are padded on the left, so different batch sizes give rounding differences. If memory runs out, batches are
    halved.

    Args:
        lm: The language model.
        prompts: The tokens of each prompt, with BOS if the model needs one.
        max_new_tokens: The most tokens of a continuation.
        intervention: An intervention, or None.
        sampling: How tokens are drawn; None takes the most probable token at every step.
        batch_size: The number of continuations that are generated at a time.

    Raises:
        UsageError: A prompt is empty, or too long for the model.
        HookMismatchError: The intervention does not fit the model.
    """
    new = generate_rows(
        lm,
        prompts,
        max_new_tokens=max_new_tokens,
        intervention=lambda _: intervention,
        samplings=[sampling],
        batch_size=batch_size,
    )
    return [continuation for [continuation] in new]


def generate_rows(
    lm: LanguageModel,
    prompts: Sequence[Sequence[int]],
    *,
    max_new_tokens: int,
    intervention: Callable[[list[int]], Intervention | None],
    samplings: Sequence[Sampling | None],
    batch_size: int,
    copies: int = 1,
    done: Callable[[int], None] = lambda _: None,
) -> list[list[list[int]]]:
    """Return continuations of several copies of each prompt, under an intervention that depends on the rows of a batch.

    Copies of a prompt are put into the same batch if they fit, and they share their random numbers. What they have in
    common is computed only once: the blocks before the intervention for all rows of a batch with the same prompt, and
    the whole prompt for all samplings of a row.

    Args:
        lm: The language model.
        prompts: The tokens of each prompt, with BOS if the model needs one.
        max_new_tokens: The most tokens of a continuation.
        intervention: Returns the intervention for the rows of a batch, in which a row's number occurs once for each
            sampling.
        samplings: The ways to draw tokens; None takes the most probable token at every step.
        batch_size: The number of continuations that are generated at a time.
        copies: The number of rows for each prompt. Row r continues prompt r // copies.
        done: Is called with the number of continuations that a batch has finished.

    Returns:
        The continuations, ``[rows][samplings]``.

    Raises:
        UsageError: A prompt is empty, or too long for the model.
        HookMismatchError: An intervention does not fit the model.
    """
    _check(lm, prompts, max_new_tokens)
    # Rows are ordered by the length of their prompts, so that batches need little padding.
    order = sorted(range(len(prompts) * copies), key=lambda row: len(prompts[row // copies]))
    continuations: dict[int, list[list[int]]] = {}

    def work(batch: slice) -> None:
        rows = order[batch]
        numbers = [row // copies for row in rows]
        ways = [None if sampling is None else Draw(sampling, numbers) for sampling in samplings]
        acting = intervention([row for row in rows for _ in ways])
        new = _continue(lm, [prompts[number] for number in numbers], max_new_tokens, acting, ways)
        continuations.update(zip(rows, new, strict=True))
        done(len(rows) * len(ways))

    for_batches(slice(0, len(order)), max(1, batch_size // len(samplings)), work)
    return [continuations[row] for row in range(len(order))]


def _check(lm: LanguageModel, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> None:
    if max_new_tokens < 1:
        raise UsageError(f"max_new_tokens must be at least 1, not {max_new_tokens}.")
    context = getattr(lm.config.get_text_config(), "max_position_embeddings", None)
    for number, prompt in enumerate(prompts):
        if not prompt:
            raise UsageError(f"Prompt {number} has no tokens; begin it with the BOS token.")
        if context is not None and len(prompt) + max_new_tokens > context:
            raise UsageError(
                f"Prompt {number} has {len(prompt)} tokens, and with {max_new_tokens} new ones it exceeds the context "
                f"of {lm.name} ({context}); shorten it, or generate fewer tokens."
            )


@torch.no_grad()
def _continue(
    lm: LanguageModel,
    prompts: list[Sequence[int]],
    max_new_tokens: int,
    intervention: Intervention | None,
    ways: Sequence[Draw | None],
) -> list[list[list[int]]]:
    """Return the continuations ``[prompts][ways]`` of one batch. The intervention has a row for each of them."""
    ends = _end_tokens(lm)
    pad = next(token for token in (lm.tokenizer.pad_token_id, *ends, 0) if token is not None)
    prefix = _prefix(lm, prompts, pad, intervention)
    tokens, text = _padded(lm, prompts, pad)
    growing = Growing(lm, text)
    repeated = None if intervention is None else Repeated(intervention, len(ways))
    generated = torch.full((len(prompts) * len(ways), max_new_tokens), pad, device=lm.device)
    unfinished = torch.ones(len(generated), dtype=torch.bool, device=lm.device)
    ending = torch.tensor(ends, dtype=torch.long, device=lm.device)
    with intervening(lm, repeated):
        hidden = growing.begin(tokens, prefix).repeat_interleave(len(ways), dim=0)
        growing.repeat(len(ways))
        if repeated is not None:
            repeated.copies = 1
        for step in range(max_new_tokens):
            if step:
                hidden = growing.add(generated[:, step - 1])
            for number, way in enumerate(ways):
                of_way = hidden[number :: len(ways)]
                new = lm.head.best(of_way) if way is None else way(lm.head.all_logits(of_way))
                generated[number :: len(ways), step] = new
            generated[~unfinished, step] = pad
            unfinished &= ~torch.isin(generated[:, step], ending)
            if not unfinished.any():
                break
    rows = [_before_end(row, ends) for row in generated.tolist()]
    return [rows[start : start + len(ways)] for start in range(0, len(rows), len(ways))]


def _padded(lm: LanguageModel, prompts: Sequence[Sequence[int]], pad: int) -> tuple[Tensor, Tensor]:
    """Return the tokens ``[prompts, position]``, padded on the left, and a mask that is False at padding."""
    width = max(map(len, prompts))
    tokens = torch.tensor([[pad] * (width - len(prompt)) + list(prompt) for prompt in prompts], device=lm.device)
    columns = torch.arange(width, device=lm.device)
    return tokens, columns >= torch.tensor([[width - len(prompt)] for prompt in prompts], device=lm.device)


def _prefix(
    lm: LanguageModel, prompts: Sequence[Sequence[int]], pad: int, intervention: Intervention | None
) -> Prefix | None:
    """Return what rows of the same prompt have in common before the intervention, or None if there are no such rows."""
    distinct = {tuple(prompt): None for prompt in prompts}
    if intervention is None or len(distinct) == len(prompts):
        return None
    blocks = min(lm.site(name).layer for name in (intervention.site, intervention.reads))
    if not blocks or not can_share(lm):
        return None
    number = {prompt: place for place, prompt in enumerate(distinct)}
    rows = torch.tensor([number[tuple(prompt)] for prompt in prompts], device=lm.device)
    return Prefix(lm, *_padded(lm, list(distinct), pad), blocks, rows)


def _end_tokens(lm: LanguageModel) -> list[int]:
    """Return the tokens that end a text, by the model's generation settings, or else by its tokenizer."""
    ends = lm.model.generation_config.eos_token_id
    ends = lm.tokenizer.eos_token_id if ends is None else ends
    return [] if ends is None else ends if isinstance(ends, list) else [ends]


def _before_end(row: list[int], ends: list[int]) -> list[int]:
    return row[: next((place for place, token in enumerate(row) if token in ends), len(row))]
