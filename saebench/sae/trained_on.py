"""What an SAE's metadata says about its training, compared with what a run does with it.

Differences that the run can undo are undone by the adapter; the others are told: in the log of the run and in the notes
of the record. None of them is an error, because metadata may be wrong, and because some differences are wanted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from saebench.errors import shown

# Arguments of TransformerLens' loaders that change no activation at the hook points of saebench.
_HARMLESS = frozenset(
    {
        *("fold_ln", "center_unembed", "device", "dtype", "torch_dtype", "n_devices", "move_to_device"),
        *("local_files_only", "trust_remote_code", "low_cpu_mem_usage", "attn_implementation", "default_padding_side"),
        *("first_n_layers", "cache_dir", "token", "hf_model", "tokenizer", "verbose", "default_prepend_bos"),
    }
)
_CENTRED = "center_writing_weights"
# They change what the heads' outputs z are, and nothing else.
_OF_HEADS = frozenset({"fold_value_biases", "refactor_factored_attn_matrices"})
_WRITTEN = re.compile(r"blocks\.[0-9]+\.hook_(?:resid_pre|resid_mid|resid_post|mlp_out|attn_out)")


_ALL_POSITIONS = ((), (None,), (None, None), (0, None), (None, None, None), (0, None, None), (0, None, 1))


class Model(Protocol):
    """What is asked of a language model here; `saebench.lm.facts.Facts` answers it."""

    @property
    def name(self) -> str:
        """Its reference."""
        ...

    @property
    def revision(self) -> str | None:
        """The revision that its reference names."""
        ...

    def is_called(self, name: str) -> bool:
        """Whether ``name`` may be a name of it, with or without organisation, scheme and revision."""
        ...

    def ignores_mean(self) -> bool:
        """Whether the mean of the residual stream over its dimensions changes nothing that the model computes."""
        ...


@dataclass(frozen=True)
class TrainedOn:
    """How an SAE was trained, as far as it says so.

    Attributes:
        model: The name of the language model.
        context_size: The number of tokens of a sequence.
        prepend_bos: Whether sequences began with a BOS token.
        positions: Which positions of a sequence were trained on, as the arguments of a slice; empty for all of them.
        model_arguments: How TransformerLens loaded the language model.
    """

    model: str | None = None
    context_size: int | None = None
    prepend_bos: bool | None = None
    positions: tuple[int | None, ...] = ()
    model_arguments: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, metadata: Mapping[str, Any]) -> TrainedOn:
        """Return what the metadata of a SAELens file says; entries of a wrong type are left out."""

        def entry(key: str, kind: type) -> Any:
            value = metadata.get(key)
            return value if isinstance(value, kind) else None

        positions = entry("seqpos_slice", list) or entry("seqpos_slice", tuple) or ()
        return cls(
            model=entry("model_name", str),
            context_size=entry("context_size", int),
            prepend_bos=entry("prepend_bos", bool),
            positions=() if tuple(positions) in _ALL_POSITIONS else tuple(positions),
            model_arguments=entry("model_from_pretrained_kwargs", dict) or {},
        )

    def centred(self, site: str) -> bool:
        """Whether the activations at ``site`` had no mean over their dimensions, in a model with layer norm."""
        return bool(self.model_arguments.get(_CENTRED)) and _WRITTEN.fullmatch(site) is not None

    def notes(self) -> dict[str, Any]:
        """What a record keeps of it."""
        known = {
            "model_name": self.model,
            "context_size": self.context_size,
            "prepend_bos": self.prepend_bos,
            "seqpos_slice": list(self.positions),
        }
        return {key: value for key, value in known.items() if value not in (None, [])}


def trained_on(sae: Any) -> TrainedOn:
    """Return what an SAE says about its training. One that is no adapter of saebench names at most a model."""
    said = getattr(sae, "trained_on", None)
    return said if isinstance(said, TrainedOn) else TrainedOn.of({"model_name": sae.model_name})


def differences(
    trained: TrainedOn, name: str, sites: tuple[str, ...], model: Model, context_length: int | None = None
) -> Iterator[str]:
    """Yield a sentence for each way in which a run uses an SAE otherwise than its training did.

    Args:
        trained: What the SAE says about its training.
        name: Its reference.
        sites: The hook points at which it reads and writes.
        model: The language model of the run.
        context_length: The tokens of the run's sequences; None if they are not known.
    """
    if trained.model is not None and not model.is_called(trained.model):
        yield (
            f"{name} was trained on the language model {shown(trained.model)}, and this run uses {model.name}; unless "
            "these are two names of one model, the numbers say nothing about the SAE."
        )
    if trained.prepend_bos is False:
        yield f"{name} was trained on sequences without a BOS token, and each sequence of this run begins with one."
    if trained.positions:
        yield (
            f"{name} was trained on the positions seqpos_slice={shown(list(trained.positions))} of each sequence only, "
            "and this run evaluates all positions."
        )
    if trained.context_size is not None and context_length is not None and context_length > trained.context_size:
        yield (
            f"{name} was trained on sequences of {trained.context_size} tokens, and those of this run have "
            f"{context_length}; it has never seen the later positions."
        )
    for key, value in trained.model_arguments.items():
        if not _no_difference(key, value, sites, model):
            yield (
                f"{name} was trained on a language model that was loaded with {shown(key)}: {shown(value)}, which this "
                "run does not do."
            )


def _no_difference(key: str, value: Any, sites: tuple[str, ...], model: Model) -> bool:
    """Whether an argument with which the language model was loaded changes nothing at ``sites``, or is dealt with."""
    if key in _OF_HEADS:
        return not value or not any(site.endswith("hook_z") for site in sites)
    return key in _HARMLESS or key == _CENTRED or value in (None, False) or (key, value) == ("revision", model.revision)
