"""How much of an SAE's error is linear in the activation (definitions of 2410.14670), and who shares it."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from typing import Any, ClassVar

import numpy as np
import torch

from saebench.errors import NotApplicableError
from saebench.evaluation.measure import add
from saebench.evaluation.task import GroupTask, SAEGroup, SAETask, TaskOutput
from saebench.passes.context import TaskContext
from saebench.sae.codes import Coder
from saebench.sae.protocol import SAE, Capability
from saebench.stats.intervals import Estimate, bootstrap_ratio
from saebench.stats.linear import FITS
from saebench.tasks.dark_matter.agreement import agreement
from saebench.tasks.dark_matter.evaluate import Evaluation, by_loss, evaluate
from saebench.tasks.dark_matter.fit import ErrorModel, Inputs, fit_error
from saebench.tasks.dark_matter.ratios import Ratios, error_ratios, loss_ratios, norm_ratios, subset_of
from saebench.tasks.dark_matter.settings import DarkMatterSettings
from saebench.tasks.dark_matter.splice import conditions, spliced_losses
from saebench.tasks.dark_matter.texts import Parameters, evaluation_batch, fit_batch, loss_batch

_EXACT = "the reconstruction is exact up to rounding, so there is no error to predict"


class DarkMatterTask(SAETask[DarkMatterSettings], GroupTask[DarkMatterSettings]):
    """Predicts the error of an SAE from the activation; for groups, the error of one SAE from that of another."""

    name: ClassVar[str] = "dark_matter"
    needs: ClassVar[frozenset[Capability]] = frozenset({Capability.POSITION_WISE})
    settings = DarkMatterSettings

    def __init__(self) -> None:
        self._inputs: Inputs | None = None  # those of the site asked for last
        self._site = ""

    def prepare(self, context: TaskContext, settings: DarkMatterSettings) -> None:
        """Raise UsageError or DataError for a text that cannot be used, before any SAE is loaded."""
        parameters = settings.parameters()
        for d in sorted({context.lm.d_at(site) for site in context.sites}) or [context.lm.d_model]:
            fit_batch(context, parameters, d)

    @torch.no_grad()
    def run(self, sae: SAE, context: TaskContext, settings: DarkMatterSettings) -> TaskOutput:
        """Measure ``sae``. Raises DataError when the text is too short for the SAE's width."""
        parameters = settings.parameters()
        coder = Coder(sae, context.budget.encoder)
        given, model, found = self._measure(coder, context, parameters)
        context.shared(_tokens_key(sae, parameters), lambda: found.tokens)
        captured = context.capture(loss_batch(context, parameters, sae.d_in))
        clean = context.clean_pass(captured, sae.hook.site_out)
        random = parameters["random_direction_control"]
        if found.every.exact:  # nothing to splice in
            losses = {condition: torch.full_like(clean.ce, torch.nan) for condition in conditions(random=random)}
        else:
            losses = spliced_losses(coder, model.maps["intercept"], clean, context, random=random)
        output = _Output(context, parameters["bootstrap_replicates"])
        exact = found.every.exact
        output.ratios(error_ratios(found), _EXACT if exact else "the activations or the error do not vary")
        for fit in FITS:
            estimate = found.every.error.mean_r2(fit)
            estimate = replace(estimate, value=np.nan) if exact else estimate
            why = _EXACT if exact else "no dimension varies"
            add(output.out, "error_r2_per_dimension", estimate, "sequence", why, subset_of(fit))
        why = _EXACT if exact else "it does not vary, or it is the logarithm of an error of 0 on some token"
        output.ratios(norm_ratios(found, by_loss(found.tokens, captured)), why)
        why = _EXACT if exact else "splicing the SAE in does not raise the cross-entropy"
        output.ratios(loss_ratios(clean, losses), why)
        inputs = given.solver.inputs
        condition = Estimate(given.solver.condition, np.nan, np.nan, np.nan, inputs.n, "none")
        add(output.out, "condition_number", condition, "token", "the covariance of the activations is singular")
        tokens, ordinary = (int(sums.target.tokens.sum()) for sums in (found.every, found.ordinary))
        output.out.counts = {
            "fit_tokens": inputs.n,
            "tokens": tokens,
            "massive_tokens": tokens - ordinary,
            "sequences": len(found.l0),
            "sequences_missing": evaluation_batch(context, parameters, sae.d_in).n_missing,
            "loss_sequences": clean.n_sequences,
        }
        return output.done()

    @torch.no_grad()
    def run_group(self, group: SAEGroup, context: TaskContext, settings: DarkMatterSettings) -> TaskOutput:
        """Measure every ordered pair of ``group``: the error of the second predicted from that of the first."""
        parameters = settings.parameters()
        tokens = [
            context.shared(
                _tokens_key(sae, parameters),
                lambda sae=sae: self._measure(Coder(sae, context.budget.encoder), context, parameters)[2].tokens,  # type: ignore[misc]
            )
            for sae in group.saes
        ]
        if exact := [sae.name for sae, each in zip(group.saes, tokens, strict=True) if each.exact]:
            raise NotApplicableError(f"{exact[0]} reconstructs exactly up to rounding, so it has no error to compare.")
        output = _Output(context, parameters["bootstrap_replicates"])
        n = len(evaluation_batch(context, parameters, group.saes[0].d_in).tokens)
        for (i, a), (j, b) in permutations(enumerate(tokens), 2):
            pair = f"{group.saes[i].name} -> {group.saes[j].name}"
            found = agreement(a, b, n)
            if i > j:  # it is symmetric
                del found["agreement_rank_correlation"]
            why = "the norm of the error does not vary"
            output.ratios({(metric, pair): ratio for metric, ratio in found.items()}, why)
        output.out.counts = {
            "sequences": n,
            "tokens": len(tokens[0].sequence),
            "pairs": len(tokens) * (len(tokens) - 1),
        }
        return output.done()

    def _measure(
        self, coder: Coder, context: TaskContext, parameters: Parameters
    ) -> tuple[Inputs, ErrorModel, Evaluation]:
        hook = coder.sae.hook
        captured = context.capture(fit_batch(context, parameters, coder.sae.d_in))
        captured.want(hook.site_in, hook.site_out)
        if self._inputs is None or self._inputs.captured is not captured or self._site != hook.site_in:
            self._inputs = None  # before the next is made: it may be large
            self._inputs, self._site = Inputs.of(captured, hook.site_in), hook.site_in
        given = self._inputs
        model = fit_error(coder, given)
        evaluated = context.capture(evaluation_batch(context, parameters, coder.sae.d_in))
        evaluated.want(hook.site_in, hook.site_out)
        evaluated.complete(f"evaluation text at {hook}", lambda shard: None)
        return given, model, evaluate(coder, model, given, evaluated)


def _tokens_key(sae: SAE, parameters: Parameters) -> tuple[Any, ...]:
    names = ("text", "context_length", "skip_positions", "tokens_per_dimension", "sequences")
    return ("dark_matter", "tokens", sae.fingerprint(), *(parameters[name] for name in names))


class _Output:
    """Measurements over sequences."""

    def __init__(self, context: TaskContext, replicates: int) -> None:
        self._context, self._replicates = context, replicates
        self.out = TaskOutput(measurements=[])

    def ratios(self, ratios: Ratios, why: str) -> None:
        for (metric, subset), (num, den) in ratios.items():
            weights = self._context.bootstrap_weights(len(num), self._replicates)
            add(self.out, metric, bootstrap_ratio(num, den, weights), "sequence", why, subset, (num, den))

    def done(self) -> TaskOutput:
        self.out.counts["not_scored"] = sum(m.value is None for m in self.out.measurements)
        return self.out
