"""Translating names of a model's modules, as Hugging Face gives them, into hook points of TransformerLens."""

from __future__ import annotations

import re

# The prefixes differ by architecture: model.layers.9 (Llama, Gemma), transformer.h.9 (GPT-2), gpt_neox.layers.9.
_BLOCK = re.compile(
    r"(?:[a-z_]+\.)*?(?:layers|h|blocks)\.(?P<layer>[0-9]+)(?:\.(?P<part>[a-z_.]+?))?(?:\.(?P<side>input|output))?"
)
_PARTS = {
    "": "hook_resid_post",
    "mlp": "hook_mlp_out",
    "feed_forward": "hook_mlp_out",
    "self_attn": "hook_attn_out",
    "attn": "hook_attn_out",
    "attention": "hook_attn_out",
    "post_attention_layernorm": "hook_attn_out",
    "post_feedforward_layernorm": "hook_mlp_out",
    "pre_feedforward_layernorm": "mlp.hook_in",
}
_INPUTS = {
    "": "hook_resid_pre",
    "mlp": "mlp.hook_in",
    "self_attn.o_proj": "attn.hook_z",
    "attn.c_proj": "attn.hook_z",
    "attention.dense": "attn.hook_z",
}
_EMBEDDINGS = re.compile(r"(?:[a-z_]+\.)*(?:embed_tokens|wte|embed_in)(?:\.output)?")


def site_of_module(name: str) -> str:
    """Return the hook point that a module's output is; names that are no module's come back as they are.

    ``layers.9`` means the residual stream after block 9. A name may end with ``.input`` or ``.output``.

    >>> site_of_module("model.layers.9.mlp")
    'blocks.9.hook_mlp_out'
    >>> site_of_module("blocks.9.hook_resid_pre")
    'blocks.9.hook_resid_pre'
    """
    if "hook_" in name:
        return name
    if _EMBEDDINGS.fullmatch(name):
        return "hook_embed"
    match = _BLOCK.fullmatch(name)
    if match is None:
        return name
    part = match["part"] or ""
    site = (_INPUTS if match["side"] == "input" else _PARTS).get(part)
    return name if site is None else f"blocks.{match['layer']}.{site}"
