"""A check in a project whose folder of results holds hostile records."""

from __future__ import annotations

import pytest

from tests.hostile.record_folder import JSON
from tests.hostile.records import hostile
from tests.regression.conftest import MadeUp, Project, made_up

pytest_plugins = ["pytester"]


@pytest.mark.parametrize("noticed", ["json", "other"])
def test_hostile_records_beside_the_checked_one(noticed: str, project: Project, finds: MadeUp):
    """They stop no check, even in a project that turns warnings into errors."""
    project.pytester.makeini("[pytest]\nsaebench_results = results\nfilterwarnings = error\n")
    finds.records = [made_up()]
    root = project.pytester.path / "results"
    project.run(passed=1)
    for number, one in enumerate(one for one in hostile() if (one.noticed == JSON) == (noticed == "json")):
        if "MB" in one.name or "copies a good" in one.name:
            continue
        path = one.put(root)
        path.parent.rename(root / f"stranger-{number}")
    project.run(passed=1)
