"""The named assets that a plan needs: told and fetched before anything is loaded."""

from __future__ import annotations

from saebench.data import assets
from saebench.data.assets import Asset, State
from saebench.data.probes import ASSET as TEXTS
from saebench.data.text_ref import AssetText, parse_text_ref
from saebench.progress import Progress
from saebench.runner.plan import Plan


def missing_assets(plan: Plan) -> list[Asset]:
    """Assets of the plan's model and texts that are not completely there. Raises AssetError for a damaged one."""
    names = [plan.model.name] if plan.model.scheme == "asset" else []
    texts = [task.parameters["text"] for task in plan.tasks if "text" in task.parameters]
    if any(isinstance(parse_text_ref(text), AssetText) for text in texts):
        names.append(TEXTS)
    return [assets.asset(name) for name in names if assets.status(name).state is not State.COMPLETE]


def pull_missing(plan: Plan, progress: Progress) -> None:
    """Fetch them, saying what, how much, and under which licence. Raises AssetError."""
    missing = missing_assets(plan)
    for asset in missing:
        progress.log(
            f"fetching {asset.name} ({asset.description}): {asset.download_size / 1e6:.0f} MB, licence: {asset.licence}"
        )
    for asset in missing:
        assets.pull(asset.name, progress)
