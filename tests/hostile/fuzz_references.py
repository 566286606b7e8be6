"""Random references, and what a plan does with them before anything is loaded."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from typing import Any

from tests.hostile.draw import mutated, odd
from tests.hostile.folder import MODEL_CONFIGS, SAE_CONFIGS, SITE

SAES = (
    *(f"sae_lens:{name}" for name in (*SAE_CONFIGS, "broken", "file", "pipe", "link-to-itself")),
    "zoo:topk-k32-s0",
    "zoo:batchtopk-k32-s0",
    f"sae_lens:no-hook?hook={SITE}&norm_scaling_factor=2.5",
    "sae_lens:gpt2-small-res-jb/blocks.8.hook_resid_pre",
    f"sae_lens:org/repo/some/folder?hook={SITE}&hook_out={SITE}",
    f"baseline:pca?hook={SITE}&k=32",
    "baseline:neurons",
    "baseline:random?d_sae=2048&l0=32&seed=1",
    "baseline:permuted-decoder(zoo:topk-k32-s0)?seed=3",
    "baseline:permuted-decoder(baseline:permuted-decoder(baseline:random?l0=4))",
    "python:code.py:build?a=1&b=x%20y",
    "python:json.tool:main",
)
GROUPS = (
    "zoo-sparsity",
    "random",
    "pair=zoo:topk-k32-s0,zoo:topk-k32-s1",
    "g=baseline:random?seed=0,baseline:permuted-decoder(zoo:topk-k32-s0)?seed=1,sae_lens:good",
)
MODELS = (
    *MODEL_CONFIGS,
    *("asset:gemma-3-270m", "asset:smollm2-135m", "hf:org/name", "hf:org/name@main", "broken", "./model"),
)
TEXTS = (
    *("jsonl:text.jsonl", "jsonl:text.jsonl:text", "asset:sae-probes/97_news_class"),
    *("hf:org/data@main:config:train[:1000]:text", "hf:data", "text.jsonl", "jsonl:pipe"),
)
LABELLED = ("csv:labels.csv", "jsonl:text.jsonl", "words:jsonl:text.jsonl?words=a,b", "asset:sae-probes/97_news_class")
SITES = (SITE, "blocks.0.attn.hook_z", "blocks.2.hook_mlp_out", "blocks.99.hook_resid_pre", "ln_final.hook_normalized")
SIZES = ("800MB", "1.5GB", "2 GiB", "0", "64000000", "1e9")
PIVOTS = ("sae/metric", "sae,seed/task,metric")
INTERVENTIONS = ("none", "splice", "clamp:latents=1,2;value=-5;error=kept", "steer:latents=1;tier=2")


def _ask(text: str) -> None:
    """Parse a reference to an SAE and ask everything that planning asks."""
    from saebench.sae.reference import parse_sae_ref

    ref = parse_sae_ref(text)
    _consistent(ref, parse_sae_ref(str(ref)))
    for default in (None, SITE):
        ref.site(default)
    _ = ref.control, ref.derived, ref.fitted, ref.hook_for_controls, ref.inner, ref.width, ref.named_sites


def _group(text: str) -> None:
    from saebench.sae.group_ref import parse_sae_group

    group = parse_sae_group(text)
    _consistent(group, parse_sae_group(str(group)))


def _model(text: str) -> None:
    from saebench.lm.reference import parse_lm_ref
    from saebench.runner.shape import shape_of

    shape_of(parse_lm_ref(text))


@functools.cache
def _small_sae() -> Any:
    from saebench.sae.baselines import NeuronBaseline
    from saebench.sae.hook import HookSite

    return NeuronBaseline(8, name="neurons", hook=HookSite.at(SITE))


def _intervention(text: str) -> None:
    from saebench.interventions import parse_intervention

    parse_intervention(text, _small_sae())


def _consistent(first: object, again: object) -> None:
    assert first == again, f"{first} and {again} differ"


def _saes() -> tuple[str, ...]:
    """Good references to SAEs; also of schemes that `SAES` does not know, to a folder and to a file."""
    from saebench.sae.registry import scheme_registry

    known = {ref.partition(":")[0] for ref in SAES}
    others = [name for name in scheme_registry().names() if name not in known]
    bodies = ("good", "file", f"missing?hook={SITE}", "good?layer=1&k=2&norm_scaling_factor=0.5&map=run.yaml")
    return (*SAES, *(f"{name}:{body}" for name in others for body in bodies))


@functools.cache
def _kinds() -> dict[str, tuple[tuple[str, ...], Callable[[str], Any]]]:
    """The parsers by name, each with good references."""
    from saebench.budget import parse_bytes
    from saebench.data.labelled_ref import parse_labelled_ref
    from saebench.data.parallel.flores import parse_flores
    from saebench.data.text_ref import parse_text_ref
    from saebench.lm.site import parse_site
    from saebench.results.pivot import parse as parse_pivot

    return {
        "an SAE": (_saes(), _ask),
        "a group": (GROUPS, _group),
        "a model": (MODELS, _model),
        "a text": (TEXTS, parse_text_ref),
        "labelled data": (LABELLED, parse_labelled_ref),
        "parallel sentences": (("org/data", "org/data@main:eng_Latn,deu_Latn"), parse_flores),
        "a hook point": (SITES, parse_site),
        "an amount of memory": (SIZES, parse_bytes),
        "a pivot": (PIVOTS, parse_pivot),
        "an intervention": (INTERVENTIONS, _intervention),
    }


def reference(draw: random.Random, good: tuple[str, ...]) -> str:
    """Return a good reference, a mutated one, or a hostile text."""
    kind = draw.random()
    if kind < 0.05:
        return odd(draw)
    text = draw.choice(good)
    if kind < 0.15:
        return text
    if kind < 0.2:
        depth = draw.choice((1, 2, 3, 8, 9, 12, 40, 400))
        return "baseline:permuted-decoder(" * depth + text + ")" * draw.choice((depth, depth - 1, depth + 1))
    if kind < 0.3:
        key = draw.choice(("hook", "hook_out", "k", "l0", "seed", "d_sae", "norm_scaling_factor", odd(draw)))
        return f"{text}{draw.choice('?&')}{key}={odd(draw)}"
    return mutated(draw, text, good)


def example(draw: random.Random) -> tuple[str, object, Callable[[], object]]:
    """Return the name of a parser, a reference, and the call."""
    kinds = _kinds()
    name = draw.choice(("an SAE", "an SAE", "an SAE", *kinds))
    good, parse = kinds[name]
    text = reference(draw, good)
    return name, text, lambda: parse(text)
