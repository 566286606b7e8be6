"""The barrier between saebench and libraries that load what strangers have made: every fault becomes one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from saebench.budget import memory_sentence, out_of_memory
from saebench.errors import ModelError, SaebenchError
from saebench.files import storable_text

_LONGEST = 300  # characters of a library's message


@contextmanager
def loading(what: str, *, trusted: bool = False) -> Iterator[None]:
    """Turn whatever a library raises into ModelError, which keeps the cause. Errors of saebench pass.

    Args:
        what: What is loaded, as the beginning of a sentence, such as "The tokenizer of gpt2".
        trusted: Whether code that comes with the model may run, which may even end the program.
    """
    try:
        yield
    except (SaebenchError, KeyboardInterrupt, GeneratorExit):
        raise
    except SystemExit as error:
        if not trusted:
            raise
        raise ModelError(f"{what} could not be loaded: its code ended the program.") from error
    except BaseException as error:  # a panic of a library in Rust is no Exception
        raise ModelError(f"{what} could not be loaded: {_cause(error, trusted)}") from error


def _cause(error: BaseException, trusted: bool) -> str:
    if out_of_memory(error):
        return f"{memory_sentence(error)} --dtype bfloat16 takes half of what float32 takes."
    text = storable_text(" ".join(str(error).split()))
    if "trust_remote_code" in text and not trusted:
        return (
            "its configuration names Python code of its own, which saebench does not run unasked; use a model whose "
            "architecture is part of transformers, or read that code and give --trust-remote-code."
        )
    if "ignore_mismatched_sizes" in text:
        return "its weights have other shapes than its config.json says, so they do not belong together."
    if "weights_only" in text or "WeightsUnpickler" in text or type(error).__name__ == "UnpicklingError":
        return (
            "its weights are a pickle that is damaged or holds more than tensors. It could run code, so it is not "
            "loaded; convert it to safetensors where you trust it."
        )
    kind = type(error).__name__
    if kind.startswith("StrictDataclass"):  # how transformers checks settings
        return f"its config.json is wrong: {text.partition('Error: ')[2][:_LONGEST] or text[:_LONGEST]}"
    if kind in ("SafetensorError", "EOFError", "JSONDecodeError", "UnicodeDecodeError"):
        return (
            f"its files are damaged ({text[:_LONGEST] or 'one of them ends too early'}); get a complete copy of them."
        )
    reason = f"{kind}: {text[:_LONGEST]}" if text else kind
    if isinstance(error, OSError | ValueError | ImportError):  # their texts say themselves what to do
        return reason
    return f"{reason.rstrip('.')}. Get a complete copy of its files, or compare them with those of the original."
