"""The formats of SAEs that people publish, and the schemes of references that load them. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from saebench.sae.affine.map import built_in_maps


@dataclass(frozen=True)
class Format:
    """One format of files.

    Attributes:
        name: Whose files it is, as its users call it.
        schemes: The schemes of references that load it.
        examples: References to copy, one for each scheme. By default those of the maps.
        note: What of it does not load, and why.
    """

    name: str
    schemes: tuple[str, ...] = ()
    examples: tuple[str, ...] = ()
    note: str = ""


FORMATS = (
    Format("SAELens from version 6 on", ("sae_lens",), ("sae_lens:path/to/folder",)),
    Format("SAELens up to version 5", ("sae_lens",), ("sae_lens:path/to/old-folder",)),
    Format("dictionary_learning", ("dictionary_learning",)),
    Format(
        "science-of-finetuning's fork of dictionary_learning",
        ("finetuning_crosscoder",),
        ("finetuning_crosscoder:path/to/crosscoder",),
        "Its crosscoders load. Its Gated and JumpReLU SAEs have latents in other units than the classes of the same "
        "name in dictionary_learning, and are not read.",
    ),
    Format(
        "Nanda's and Kissane's crosscoders",
        ("nanda_crosscoder",),
        ("nanda_crosscoder:path/to/cc?norm_scaling_factor=0.28+0.23",),
    ),
    Format("EleutherAI's sparsify", ("sparsify",)),
    Format(
        "EleutherAI's clt-training",
        note="Its files alone do not say how the latents of several layers are combined.",
    ),
    Format("Gemma Scope", ("gemma_scope",)),
    Format(
        "Gemma Scope, transcoders",
        ("gemma_scope",),
        ("gemma_scope:gemma-scope-2b-pt-transcoders/layer_12/width_16k/average_l0_6",),
    ),
    Format(
        "Gemma Scope 2, cross-layer transcoders included",
        ("gemma_scope_2", "gemma_scope_2_clt"),
        ("gemma_scope_2:gemma-scope-2-270m-pt/resid_post/layer_9_width_16k_l0_medium", "gemma_scope_2_clt:path/to/clt"),
    ),
    Format("OpenAI's GPT-2 SAEs, versions 1, 4 and 5", ("openai",)),
    Format("Llama Scope", ("llama_scope",)),
    Format("Llama-Scope-R1-Distill", ("llama_scope_r1",)),
    Format(
        "lm-saes and llamascopium",
        ("llamascopium", "llamascopium_crosscoder", "llamascopium_clt"),
        ("llamascopium:my-sae", "llamascopium_crosscoder:my-crosscoder", "llamascopium_clt:my-clt"),
        "SAEs, transcoders, crosscoders and cross-layer transcoders load. Lorsa (sparse attention heads) and MOLT "
        "(mixtures of linear transforms) are dictionaries of other kinds, which saebench has no adapter for, and its "
        "distributed checkpoints (`.dcp`) are not read.",
    ),
    Format("Qwen-Scope", ("qwen_scope",)),
    Format("Goodfire's Llama SAEs", ("goodfire",)),
    Format("qresearch's DeepSeek-R1 SAEs", ("qresearch",)),
    Format("Kissane's attention SAEs", ("kissane",)),
    Format("Temporal SAEs of their authors", ("temporal",), ("temporal:temporalSAEs/layer_12/temporal",)),
    Format("Transcoders of one layer for circuit-tracer", ("circuit_tracer",)),
    Format(
        "Cross-layer transcoders for circuit-tracer",
        ("circuit_tracer_clt",),
        ("circuit_tracer_clt:clt-gemma-2-2b-426k",),
    ),
    Format(
        "crosslayer-coding",
        ("crosslayer_coding",),
        ("crosslayer_coding:path/to/clt",),
        "Its distributed checkpoints (`rank_R_model.pt`) hold parts of matrices and are not read.",
    ),
    Format("ITDA", ("itda",), ("itda:path/to/folder",)),
    Format(
        "Overcomplete",
        ("overcomplete",),
        note="SAEs with a linear encoder load. MLP, ResNet and attention encoders, QSAE and archetypal dictionaries "
        "are refused with the reason.",
    ),
    Format("ViSAEBench", ("visaebench",)),
    Format(
        "Prisma (ViT-Prisma)",
        ("prisma",),
        note="Its transcoders, and SAEs that read the class token only, are refused.",
    ),
    Format("saev, versions 0.1.0 to 2026", ("saev",)),
    Format("OpenSAE", ("opensae",)),
    Format(
        "AudioSAE",
        note="Nobody has read how its files are laid out. It is for models of speech, which saebench does not run.",
    ),
    Format("Dicts with `state`, `scale` and `k`", ("scaled_topk",)),
    Format("PolySAE", ("polysae",), ("polysae:path/to/folder",)),
    Format("Variational TopK SAEs", ("vsae",)),
)

# Where the formulas were read, for schemes that no map describes.
SOURCES = {
    "sae_lens": "SAELens 2 to 6",
    "itda": "arXiv 2505.17769; github davidkaczer/itda, train.py",
    "temporal": "SAELens 6.54.12, saes/temporal_sae.py",
    "polysae": "arXiv 2602.01322; github pakoromilas/PolySAE",
    "nanda_crosscoder": "ckkissane/crosscoder-model-diff-replication, crosscoder.py",
    "finetuning_crosscoder": "science-of-finetuning/dictionary_learning of July 2025, dictionary.py",
    "llamascopium_crosscoder": "llamascopium 2.0.0b34, models/crosscoder.py",
    "llamascopium_clt": "llamascopium 2.0.0b34, models/clt.py",
    "circuit_tracer_clt": "circuit-tracer 0.5.0, transcoder/cross_layer_transcoder.py",
    "gemma_scope_2_clt": "circuit-tracer 0.5.0, transcoder/cross_layer_transcoder.py",
    "crosslayer_coding": "curt-tigges/crosslayer-coding, clt/models/",
}


def examples_of(form: Format) -> dict[str, str]:
    """Return a reference to copy for each scheme of a format."""
    maps = built_in_maps()
    examples = form.examples or tuple(maps[name][0].example for name in form.schemes)
    return dict(zip(form.schemes, examples, strict=True))


def source_of(scheme: str) -> str:
    """Return where the formula of a scheme was read; empty if nothing says it."""
    maps = built_in_maps()
    return maps[scheme][0].source if scheme in maps else SOURCES.get(scheme, "")
