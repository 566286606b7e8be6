"""The error of an SAE predicted from the activation: fitted on one text, evaluated on another."""

from __future__ import annotations

from dataclasses import dataclass

from saebench.passes.context import TaskContext
from saebench.sae.codes import Coder
from saebench.sae.protocol import SAE
from saebench.tasks.dark_matter.data import evaluation_text, fit_text
from saebench.tasks.dark_matter.scoring.evaluation import ErrorScores, TokenErrors, error_scores
from saebench.tasks.dark_matter.scoring.fit import ErrorModel, FitInputs, fit_error, fit_inputs
from saebench.tasks.dark_matter.settings import DarkMatterSettings


@dataclass(frozen=True)
class PredictedError:
    """What the error of one SAE was predicted from, by which model, and how well."""

    inputs: FitInputs
    model: ErrorModel
    scores: ErrorScores


def predict_error(coder: Coder, context: TaskContext, settings: DarkMatterSettings) -> PredictedError:
    """Fit the predictions of an SAE's error, and evaluate them on other documents.

    The errors on each token are kept in the context for `token_errors`.

    Raises:
        DataError: The text is too short for the width of the SAE.
        SaebenchError: The reconstruction holds NaN or Inf.
    """
    sae = coder.sae
    inputs = fit_inputs(fit_text(sae, context, settings), sae.hook.site_in, context)
    model = fit_error(coder, inputs)
    scores = error_scores(coder, model, inputs, evaluation_text(sae, context, settings))
    _kept_errors(context, settings)[sae.fingerprint()] = scores.tokens
    return PredictedError(inputs, model, scores)


def token_errors(sae: SAE, context: TaskContext, settings: DarkMatterSettings) -> TokenErrors:
    """The errors of ``sae`` on each token. An SAE that was measured already is not encoded again.

    Raises what `predict_error` raises.
    """
    kept = _kept_errors(context, settings)
    if sae.fingerprint() not in kept:
        predict_error(Coder(sae, context.budget.encoder), context, settings)
    return kept[sae.fingerprint()]


def _kept_errors(context: TaskContext, settings: DarkMatterSettings) -> dict[str, TokenErrors]:
    """The token errors of the SAEs that were measured, by fingerprint; the dictionary lives in the context."""
    sizes = (settings.context_length, settings.skip_positions, settings.sequences, settings.tokens_per_dimension)
    return context.shared(("dark_matter", "token errors", settings.text, *sizes), dict[str, TokenErrors])
