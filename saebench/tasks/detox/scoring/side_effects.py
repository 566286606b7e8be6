"""What else an intervention changes: the loss on neutral text, and what the model can do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from saebench.errors import UsageError
from saebench.evaluation.report import Ratio
from saebench.harness import require_lm_eval
from saebench.harness.utility import Utility, evaluate_utility
from saebench.interventions.base import Intervention
from saebench.passes.context import TaskContext
from saebench.tasks.detox.data import neutral_text
from saebench.tasks.detox.settings import DetoxSettings


@dataclass(frozen=True)
class UtilityScores:
    """lm-eval's scores by task, of the unchanged model and under an intervention; empty if there are none."""

    clean: dict[str, Utility]
    changed: dict[str, Utility]
    why_missing: str = ""  # why there are none although the settings ask for them


def ce_changes(
    context: TaskContext, settings: DetoxSettings, site: str, changes: Mapping[str, Sequence[Intervention | None]]
) -> dict[str, list[Ratio]]:
    """Measure by how much interventions raise the cross-entropy of neutral text.

    Args:
        context: Holds the language model and the clean passes.
        settings: Name the text.
        site: The hook point that all interventions change.
        changes: The interventions of each subset; None changes nothing.

    Returns:
        For each intervention of each subset the rise in nats, summed over the predictions of a sequence, and their
        number, per sequence.
    """
    items = neutral_text(context, settings, site)
    predictions = items.counts.numpy()
    every = [change for of_subset in changes.values() for change in of_subset]
    distinct = {id(change): change for change in every if change is not None}
    rises = {id(None): np.zeros_like(predictions)}
    if distinct:
        ce = items.under(list(distinct.values()), "neutral text under detoxification")
        rises |= dict(zip(distinct, items.per_item(ce - items.clean).numpy(), strict=True))
    return {subset: [(rises[id(change)], predictions) for change in of_subset] for subset, of_subset in changes.items()}


def utility_scores(context: TaskContext, settings: DetoxSettings, change: Intervention | None) -> UtilityScores:
    """Score the lm-eval tasks without and with ``change``, where None changes nothing.

    Where lm-eval is not installed there are no scores, and the reason is given. Raises UsageError for a task that
    lm-eval does not know.
    """
    if not (settings.utility_limit and settings.utility_tasks):
        return UtilityScores({}, {})
    try:
        require_lm_eval()
    except UsageError as error:
        return UtilityScores({}, {}, str(error))
    clean = context.shared(("detox", "utility", settings), lambda: _utility(context, settings, None))
    return UtilityScores(clean, clean if change is None else _utility(context, settings, change))


def _utility(context: TaskContext, settings: DetoxSettings, change: Intervention | None) -> dict[str, Utility]:
    return evaluate_utility(context.lm, change, settings.utility_tasks, limit=settings.utility_limit, seed=context.seed)
