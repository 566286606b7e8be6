"""The model ``saebench`` for lm-eval: lm-eval's own ``hf`` model, with an intervention at a hook if one is wanted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from lm_eval.api.registry import register_model
from lm_eval.models.huggingface import HFLM
from torch import Tensor

from saebench.errors import UsageError
from saebench.harness.resolve import resolve_intervention, resolve_sae, source_of
from saebench.lm.intervene import intervening, logits
from saebench.lm.load import fingerprint
from saebench.lm.model import LanguageModel
from saebench.lm.reference import parse_lm_ref
from saebench.sae.protocol import SAE

if TYPE_CHECKING:
    from saebench.interventions.base import Intervention

Request = tuple[Any, list[int], list[int]]  # lm-eval's request: the texts, and the tokens of context and continuation


@register_model("saebench")
class SaebenchLM(HFLM):
    """Scores and generates as ``hf`` does, and under an intervention if there is an SAE or an intervention.

    Without either, it *is* ``hf`` on the same files, to the last digit.
    """

    def __init__(
        self,
        pretrained: str | LanguageModel,
        sae: str | SAE | None = None,
        intervention: str | Intervention | None = None,
        **kwargs: Any,
    ) -> None:
        """Load the language model and the SAE.

        Args:
            pretrained: A language model or the reference of one: asset:NAME, hf:ORG/NAME[@REVISION] or a folder.
            sae: An SAE or the reference of one.
            intervention: An intervention or the text form of one: none, splice, or a text that
                `saebench.interventions.parse_intervention` reads. By default it is splice if there is an SAE.
            **kwargs: The arguments of lm-eval's ``hf``.

        Raises:
            UsageError: A reference is wrong, or arguments contradict each other.
            SaebenchError: The language model or the SAE cannot be loaded, or they do not fit together.
        """
        self.lm: LanguageModel | None = None
        self.intervention: Intervention | None = None
        self.sae: SAE | None = None
        self._continuations: dict[tuple[int, ...], int] = {}
        wrapped = not isinstance(pretrained, str) or sae is not None or intervention not in (None, "none")
        if wrapped and kwargs.get("mixed_precision_dtype") is not None:
            raise UsageError("mixed_precision_dtype cannot be combined with sae or intervention; use dtype.")
        if isinstance(pretrained, str):
            ref = parse_lm_ref(pretrained)
            super().__init__(**source_of(ref, bool(kwargs.get("trust_remote_code"))), backend="causal", **kwargs)
            if wrapped:
                model = self._model.requires_grad_(False)
                identity = fingerprint(model, self.tokenizer)
                self.lm = LanguageModel(model, self.tokenizer, name=str(ref), fingerprint=identity)
        else:
            super().__init__(pretrained.model, tokenizer=pretrained.tokenizer, backend="causal", **kwargs)
            self.lm = pretrained
        if self.lm is not None:
            self.sae = resolve_sae(sae, self.lm)
            self.intervention = resolve_intervention(intervention, self.sae, self.lm)

    @classmethod
    def create_from_arg_obj(cls, arg_dict: dict[str, Any], additional_config: dict[str, Any] | None = None) -> Any:
        """Build the model. ``--model_args`` override ``--device`` and ``--batch_size``, because these have defaults."""
        other_options = {key: value for key, value in (additional_config or {}).items() if value is not None}
        return cls(**{**other_options, **arg_dict})

    def get_model_info(self) -> dict[str, Any]:
        """Return lm-eval's own description, and what else determines the numbers."""
        if self.lm is None:
            return super().get_model_info()
        return super().get_model_info() | {
            "lm": self.lm.name,
            "lm_fingerprint": self.lm.fingerprint,
            "sae": None if self.sae is None else self.sae.name,
            "sae_fingerprint": None if self.sae is None else self.sae.fingerprint(),
            "intervention": None if self.intervention is None else self.intervention.describe(),
        }

    def _loglikelihood_tokens(self, requests: list[Request], *args: Any, **kwargs: Any) -> list[tuple[float, bool]]:
        # lm-eval pads with token 0 and does not pass on the lengths, which _model_call needs.
        self._continuations = {}
        for _, context, continuation in requests:
            key = tuple((context + continuation)[-(self.max_length + 1) :][:-1])
            self._continuations[key] = max(len(continuation), self._continuations.get(key, 0))
        return super()._loglikelihood_tokens(requests, *args, **kwargs)

    def _model_call(self, inps: Tensor, attn_mask: Tensor | None = None, labels: Tensor | None = None) -> Tensor:
        if self.lm is None:
            return super()._model_call(inps, attn_mask, labels)
        width = inps.shape[1]
        lengths, needed = [], 1
        for row in inps.tolist():
            length = self._length(row)
            lengths.append(length)
            # Only the logits that predict the continuation are read, so the others are not computed.
            needed = max(needed, width - length + self._continuations.get(tuple(row[:length]), width))
        text = torch.arange(width, device=inps.device) < torch.tensor(lengths, device=inps.device)[:, None]
        last = needed if needed < width else 0
        return logits(self.lm, inps, intervention=self.intervention, text=text, last=last)

    def _length(self, row: list[int]) -> int:
        """Return the number of a row's tokens that are text: its longest beginning that was requested."""
        length = len(row)
        while tuple(row[:length]) not in self._continuations and length and row[length - 1] == 0:
            length -= 1
        return length if tuple(row[:length]) in self._continuations else len(row)

    def _model_generate(self, *args: Any, **kwargs: Any) -> Tensor:
        if self.lm is None:
            return super()._model_generate(*args, **kwargs)
        with intervening(self.lm, self.intervention):
            return super()._model_generate(*args, **kwargs)
