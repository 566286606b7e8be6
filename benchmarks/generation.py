"""Generation under several settings, against one call of transformers' ``generate`` for each setting and sampling.

Both sides continue the same prompts in float32 under the same steering vectors, which are added after the same block to
every token that is not special. Saebench's side is what its tasks call, with all settings at once. The other side is
the plain model with a hook.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from benchmarks.arithmetic import ratio_of_medians
from benchmarks.inputs import SEED, TEXT, Work, evaluation_tokens, model_folder
from benchmarks.record import BenchmarkResult
from saebench.interventions.rows import generate_settings
from saebench.interventions.vectors import AddVector
from saebench.lm.load import load_lm, resolve_device
from saebench.lm.model import LanguageModel
from saebench.lm.sampling import Sampling
from saebench.lm.site import parse_site
from saebench.progress import Progress

WAYS: dict[str, tuple[Sampling | None, ...]] = {
    "greedy": (None,),
    "greedy and drawn": (None, Sampling(temperature=0.9, top_p=0.9, seed=SEED)),
}

Measurement = dict[str, Any]


@dataclass(frozen=True)
class GenerationWork:
    """The prompts and the settings of generation that both sides work on."""

    model: str
    hook: str
    prompts: int = 24
    prompt_tokens: int = 14  # of each prompt, with BOS
    new_tokens: int = 10  # of each continuation
    settings: tuple[int, ...] = (1, 6)  # the numbers of settings that are measured


def measure(work: GenerationWork, repeats: int, device_name: str, progress: Progress) -> BenchmarkResult:
    """Measure both sides alternately, ``repeats`` times each, in this process."""
    from transformers import AutoModelForCausalLM

    device = resolve_device(device_name)
    batch = evaluation_tokens(Work(work.model, work.hook, work.prompts))
    prompts = batch.tokens[:, : work.prompt_tokens].to(device)
    lm = load_lm(work.model, device=device, dtype=torch.float32)
    plain = AutoModelForCausalLM.from_pretrained(str(model_folder(work.model)), dtype=torch.float32).eval().to(device)
    vectors = steering_vectors(max(work.settings), lm.d_model, device)
    measurements: list[Measurement] = []
    equal: list[bool] = []
    special = lm.tokenizer.all_special_ids
    # A first call of each side reads the weights from their files.
    one_by_one(plain, special, work, prompts[:2], vectors[:1], WAYS["greedy"])
    ours(lm, work, prompts[:2], vectors[:1], WAYS["greedy"])
    sides = {
        "transformers": partial(one_by_one, plain, special, work, prompts),
        "ours": partial(ours, lm, work, prompts),
    }
    cases = itertools.product(work.settings, WAYS.items(), range(repeats))
    for number, (way, samplings), repeat in cases:
        texts = {}
        for side, write in sides.items():
            begun = time.perf_counter()
            texts[side] = write(vectors[:number], samplings)  # the tokens are on the CPU, so the device has finished
            seconds = time.perf_counter() - begun
            progress.log(f"{number} settings, {way}, {side}: {seconds:.1f} s")
            measurements.append({"side": side, "settings": number, "way": way, "repeat": repeat, "seconds": seconds})
        for both in zip(*texts.values(), strict=True):
            equal += [a == b for a, b in zip(*both, strict=True)]
    settings = asdict(work) | {
        "text": TEXT,
        "tokens_sha256": batch.content_hash,
        "dtype": "float32",
        "equal_greedy_texts": sum(equal) / len(equal),
    }
    return BenchmarkResult.now("generation", settings, measurements, ratios(measurements), device=str(device))


def steering_vectors(n: int, width: int, device: torch.device) -> Tensor:
    """Return ``n`` random vectors, shorter than any activation, so that the texts change but are still texts."""
    draw = torch.Generator().manual_seed(SEED)
    return 10.0 * torch.randn(n, width, generator=draw).to(device)


def ours(
    lm: LanguageModel, work: GenerationWork, prompts: Tensor, vectors: Tensor, samplings: Sequence[Sampling | None]
) -> list[list[list[int]]]:
    """Return the greedy continuations ``[settings][prompts]``. Those that are drawn take time but are not compared."""
    added = [AddVector(work.hook, vector, 1.0) for vector in vectors]
    continuations = generate_settings(
        lm, prompts.tolist(), added, max_new_tokens=work.new_tokens, samplings=samplings, batch_size=512
    )
    return [[ways[0] for ways in setting] for setting in continuations]


@torch.no_grad()
def one_by_one(
    model: Any,
    special: Sequence[int],
    work: GenerationWork,
    prompts: Tensor,
    vectors: Tensor,
    samplings: Sequence[Sampling | None],
) -> list[list[list[int]]]:
    """Return the same as `ours`, by one call of transformers' ``generate`` for each setting and sampling."""
    greedy = []
    text = ~torch.isin(prompts, torch.tensor(special, device=prompts.device))
    for vector in vectors:
        with adding(model, parse_site(work.hook).layer, vector, text):
            for sampling in samplings:
                chosen = {} if sampling is None else {"temperature": sampling.temperature, "top_p": sampling.top_p}
                new = model.generate(
                    input_ids=prompts,
                    attention_mask=torch.ones_like(prompts),
                    max_new_tokens=work.new_tokens,
                    do_sample=sampling is not None,
                    top_k=0 if sampling is not None else None,
                    **chosen,
                )
                if sampling is None:
                    greedy.append([_cut(row, model) for row in new[:, prompts.shape[1] :].tolist()])
    return greedy


@contextmanager
def adding(model: Any, layer: int, vector: Tensor, text: Tensor) -> Iterator[None]:
    """Add ``vector`` to the output of a block where ``text[prompts, position]`` is True, and at every later step."""

    def hook(_module: Any, _inputs: Any, out: Any) -> Any:
        hidden = out[0] if isinstance(out, tuple) else out
        mask = text[..., None] if hidden.shape[1] == text.shape[1] else 1  # a step brings one token
        hidden = hidden + vector * mask
        return (hidden, *out[1:]) if isinstance(out, tuple) else hidden

    handle = model.base_model.layers[layer].register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()


def _cut(row: list[int], model: Any) -> list[int]:
    """Return the tokens of ``row`` before the one that ends a text."""
    ends = model.generation_config.eos_token_id
    ends = ends if isinstance(ends, list) else [ends]
    return row[: next((place for place, token in enumerate(row) if token in ends), len(row))]


def ratios(measurements: Sequence[Measurement]) -> dict[str, float]:
    """Return ``<way>/<settings>``, the seconds of one call after another over saebench's."""
    values = {}
    for way, number in dict.fromkeys((m["way"], m["settings"]) for m in measurements):
        rows = [m for m in measurements if (m["way"], m["settings"]) == (way, number)]
        theirs, own = ([m["seconds"] for m in rows if m["side"] == side] for side in ("transformers", "ours"))
        values[f"{way}/{number}"] = ratio_of_medians(theirs, own)
    return values
