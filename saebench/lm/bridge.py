"""TransformerLens' bridge, which is wrapped around a Hugging Face model in place and names its hook points."""

from __future__ import annotations

from typing import Any

from saebench.errors import ModelError


def bridged(model: Any, name: str) -> Any:
    """Return the bridge around a model. Raises ModelError if the bridge does not know the architecture.

    Args:
        model: A causal language model of Hugging Face.
        name: Its reference, for messages.
    """
    from transformer_lens.model_bridge import TransformerBridge

    if not getattr(model.config, "architectures", None):
        model.config.architectures = [type(model).__name__]
    try:
        return TransformerBridge.boot_transformers(
            name,
            hf_model=model,
            tokenizer=_stand_in_tokenizer(),
            dtype=next(model.parameters()).dtype,
            trust_remote_code=False,
        )
    except (ValueError, KeyError, NotImplementedError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(
            f"TransformerLens cannot name the hook points of {type(model).__name__} ({name}): {reason}"
        ) from error


def _stand_in_tokenizer() -> Any:
    """Return a tokenizer of one token for the bridge, which would change the model's own.

    It would give a tokenizer without BOS or EOS special tokens that the model does not know, and load some tokenizers
    again.
    """
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    only = "<s>"
    special = dict.fromkeys(("bos_token", "eos_token", "pad_token", "unk_token"), only)
    vocabulary = Tokenizer(models.WordLevel({only: 0}, unk_token=only))
    return PreTrainedTokenizerFast(tokenizer_object=vocabulary, name_or_path="", add_bos_token=True, **special)
