"""The named assets that a plan needs. They are listed and fetched before anything is loaded."""

from __future__ import annotations

from collections.abc import Iterator

from saebench.data import assets
from saebench.data.assets import Asset, State
from saebench.data.probes import ASSET as TEXTS
from saebench.progress import Progress
from saebench.runner.plan import Plan


def missing_assets(plan: Plan) -> list[Asset]:
    """The assets of the plan's models and texts that are not complete on this disk.

    Raises AssetError for a damaged one.
    """
    names = [plan.model.name] if plan.model.scheme == "asset" else []
    references = list(_references(plan))
    if any(f"asset:{TEXTS}/" in reference for reference in references):
        names.append(TEXTS)
    models = (reference.removeprefix("asset:") for reference in references if reference.startswith("asset:"))
    names += [name for name in dict.fromkeys(models) if "/" not in name and name not in names]
    return [assets.asset(name) for name in names if assets.status(name).state is not State.COMPLETE]


def _references(plan: Plan) -> Iterator[str]:
    """The texts, datasets and further models that tasks name in their settings, and the texts of fitted controls."""
    some_fitted = any(ref.fitted for ref in plan.refs)
    for task in plan.tasks:
        if some_fitted:
            yield task.calibration_text
        for name, value in task.parameters.items():
            for part in value if isinstance(value, list) else [value]:
                if isinstance(part, str):
                    # A dataset named without a scheme is one of the asset.
                    yield f"asset:{TEXTS}/{part}" if name == "datasets" and ":" not in part else part


def pull_missing(plan: Plan, progress: Progress) -> None:
    """Fetch the missing assets and log what they are, their sizes and licences. Raises AssetError."""
    missing = missing_assets(plan)
    for asset in missing:
        progress.log(
            f"fetching {asset.name} ({asset.description}): {asset.download_size / 1e6:.0f} MB, licence: {asset.licence}"
        )
    for asset in missing:
        assets.pull(asset.name, progress)
