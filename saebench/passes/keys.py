"""What a cached value of the language model depends on."""

from __future__ import annotations

from importlib.metadata import version

from saebench.lm.model import LanguageModel

Key = dict[str, str | int | float]

_LIBRARIES = ("torch", "transformers", "transformer_lens")


def cache_key(lm: LanguageModel, kind: str, format: int, **more: str | int) -> Key:
    """The key of the quantity ``kind``: everything that decides its values.

    Args:
        lm: The model that computes it; its weights, precision and device count.
        kind: Which quantity, such as "activations".
        format: A number to raise whenever the code computes something else under the same name.
        more: What it depends on beside the model: hashes of tokens, the site, the size of blocks.
    """
    return {
        "kind": kind,
        **more,
        "model": lm.fingerprint,
        "dtype": str(lm.dtype).removeprefix("torch."),
        "device": lm.device.type,
        "format": format,
        **{library: version(library) for library in _LIBRARIES},
    }
