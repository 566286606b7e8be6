"""The named assets that a plan needs. They are listed, fetched and checked before anything is loaded."""

from __future__ import annotations

import os
from collections.abc import Iterator

from saebench.data import assets
from saebench.data.assets import Asset, State
from saebench.data.probes import ASSET as TEXTS
from saebench.errors import AssetError
from saebench.progress import Progress
from saebench.runner.plan import Plan, TaskPlan


def missing_assets(plan: Plan) -> list[Asset]:
    """The assets of the plan's models and texts that are not complete on this disk.

    Raises AssetError for a damaged one.
    """
    return [assets.asset(name) for name in needed_assets(plan) if assets.status(name).state is not State.COMPLETE]


def needed_assets(plan: Plan) -> list[str]:
    """The names of the assets of the plan's models and texts: the model that is evaluated, texts, further models."""
    names = [name for task in plan.tasks for name in _needed_by(plan, task)]
    texts = [TEXTS] if TEXTS in names else []
    return list(dict.fromkeys([*_model(plan), *texts, *names]))


def pull_missing(plan: Plan, progress: Progress) -> None:
    """Fetch the missing assets, log what they are, their sizes and licences, and check that of the model.

    An asset that cannot be fetched is logged, and the tasks that need it fail.

    Raises:
        AssetError: The model that is evaluated cannot be fetched or is damaged, or no task has what it needs.
    """
    failed: dict[str, AssetError] = {}
    missing: list[Asset] = []
    for name in needed_assets(plan):
        try:
            if assets.status(name).state is not State.COMPLETE:
                missing.append(assets.asset(name))
        except AssetError as error:
            failed[name] = error
    for asset in missing:
        progress.log(
            f"fetching {asset.name} ({asset.description}): {asset.download_size / 1e6:.0f} MB, licence: {asset.licence}"
        )
    for asset in missing:
        try:
            assets.pull(asset.name, progress)
        except AssetError as error:
            failed[asset.name] = error
    for name in _model(plan):
        if name in failed:
            raise failed[name]
        assets.path(name, progress)
    if failed and all(failed.keys() & _needed_by(plan, task) for task in plan.tasks):
        raise next(iter(failed.values()))
    for name, reason in failed.items():
        progress.log(f"{name} cannot be used, so what needs it fails: {reason}")


def _model(plan: Plan) -> list[str]:
    return [plan.model.name] if plan.model.scheme == "asset" else []


def _needed_by(plan: Plan, task: TaskPlan) -> dict[str, None]:
    """The assets that a task's texts, datasets and further models come from, in their order."""
    names: dict[str, None] = {}
    for reference in references(plan, task):
        # Texts of the asset are also named inside of other references, such as words:asset:sae-probes/NAME.
        if f"asset:{TEXTS}/" in reference or reference.startswith("sciq:"):
            names[TEXTS] = None
        elif reference.startswith("asset:") and "/" not in reference:
            names[reference.removeprefix("asset:")] = None
    return names


def references(plan: Plan, task: TaskPlan) -> Iterator[str]:
    """The texts, datasets and further models that a task names in its settings, and the text of fitted controls."""
    if any(ref.fitted for ref in plan.refs) and not plan.model.synthetic:
        yield task.calibration_text
    for name, value in task.parameters.items():
        for part in value if isinstance(value, list) else [value]:
            if isinstance(part, str):
                # A dataset named without a scheme is one of the asset, unless a file was meant, which is refused.
                of_asset = name == "datasets" and ":" not in part and not os.path.isfile(part)
                yield f"asset:{TEXTS}/{part}" if of_asset else part
