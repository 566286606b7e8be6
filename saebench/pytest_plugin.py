"""The pytest plugin: its fixture ``sae_quality`` fails a test when an SAE has become worse than its baseline.

pytest imports this module in every project where saebench is installed, so nothing heavy may be imported before a check
runs, and the hooks use only what old versions of pytest have. `saebench.regression` does the work.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from saebench.regression.check import Outcome
    from saebench.regression.verdicts import Tolerance

MARK = "sae_quality"
_RESULTS = pytest.StashKey[list[dict[str, Any]]]()  # the results of a test until they are moved to its report
_KEY = "saebench"  # the attribute of a test's report that holds the results


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("saebench", "quality of sparse autoencoders (saebench)")
    group.addoption("--saebench-update", action="store_true", help="write the baselines again instead of comparing")
    group.addoption(
        "--saebench-update-new-only",
        action="store_true",
        help="write only the baselines and metrics that are missing; compare with the others",
    )
    group.addoption(
        "--saebench-report", metavar="PATH", help="write what the checks found to PATH.json and PATH.md at the end"
    )
    group.addoption("--saebench-device", metavar="D", help="auto, cpu, cuda or cuda:INDEX  [auto]")
    group.addoption("--saebench-skip", action="store_true", help="skip the tests that check the quality of an SAE")
    parser.addini("saebench_model", "the language model of checks that name none  [asset:gemma-3-270m]")
    parser.addini(
        "saebench_baselines", "the folder of baselines, relative to the test file", default="saebench-baselines"
    )
    parser.addini(
        "saebench_results",
        "the folder of records, relative to the root, which later sessions use again  [a new one per session]",
    )
    parser.addini(
        "saebench_dtype", "the number type of the language model: float32, bfloat16 or auto", default="float32"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", f"{MARK}: checks the quality of an SAE (set by the fixture sae_quality; --saebench-skip skips it)"
    )
    if config.getoption("--saebench-update") and config.getoption("--saebench-update-new-only"):
        raise pytest.UsageError(
            "--saebench-update writes all baselines and --saebench-update-new-only only some: choose one."
        )
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Reporter(_report_path(config)), "saebench-reporter")


def _report_path(config: pytest.Config) -> Path | None:
    """Return the path of the report and make its folder.

    Raises pytest.UsageError, before any work is done, when the folder cannot be made.
    """
    if not (option := config.getoption("--saebench-report")):
        return None
    path: Path = config.invocation_params.dir / option
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise pytest.UsageError(
            f"--saebench-report: cannot make the folder {path.parent} ({error.strerror})."
        ) from error
    return path


@pytest.hookimpl(tryfirst=True)  # before -m deselects
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if MARK in getattr(item, "fixturenames", ()):
            item.add_marker(MARK)
        if config.getoption("--saebench-skip") and item.get_closest_marker(MARK):
            item.add_marker(pytest.mark.skip(reason="--saebench-skip"))


@pytest.fixture
def sae_quality(request: pytest.FixtureRequest) -> SAEQuality:
    """Compare an SAE with its baseline: ``sae_quality.check("path/or/ref", suite="smoke", baseline="name")``."""
    return SAEQuality(request)


class SAEQuality:
    """The value of the fixture ``sae_quality``."""

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._request = request
        self._config: pytest.Config = request.config

    def check(
        self,
        sae: object,
        suite: str = "smoke",
        baseline: str | None = None,
        *,
        tasks: str | Sequence[str] | None = None,
        model: str | None = None,
        tolerance: Tolerance = "5%",
        metrics: Sequence[str] | None = None,
        seed: int = 0,
        **options: Any,
    ) -> Outcome:
        """Fail the test unless the SAE is as good as the baseline, metric by metric.

        Args:
            sae: A folder of SAELens, a reference, or an object with ``encode`` and ``decode``.
            suite: A preset.
            baseline: The name of the baseline; by default the name of the test.
            tasks: The tasks to run; by default all that apply to the SAE.
            model: The language model; by default the one of the project's configuration.
            tolerance: How much worse a metric may become: 0.01 in its unit, "5%" of the baseline's value, or such
                amounts by METRIC or TASK/METRIC (0 for metrics that are not named).
            metrics: METRIC, TASK/METRIC or TASK/METRIC/SUBSET, with wildcards; by default the primary metrics.
            seed: The seed.
            **options: Other options of `saebench.run`, such as text, hook, limit or parameters.

        Returns:
            The outcome of a test that passes.
        """
        from saebench.errors import SaebenchError
        from saebench.progress import ConsoleProgress, NullProgress
        from saebench.regression import check
        from saebench.regression.baseline import baseline_path
        from saebench.regression.report import message, to_result
        from saebench.results.slug import slug

        config = self._config
        run = {
            "device": config.getoption("--saebench-device"),
            "dtype": config.getini("saebench_dtype"),
            "suite": suite,
            "tasks": tasks,
            "model": model or config.getini("saebench_model") or None,
            "seed": seed,
        }
        try:
            run |= {**options, "sae": check.subject(sae), "out": self._results()}
            outcome = check.check(
                {key: value for key, value in run.items() if value is not None},
                baseline_path(self._baselines(), baseline or slug(self._request.node.name)),
                root=config.rootpath,
                mode=self._mode(),
                tolerance=tolerance,
                metrics=[metrics] if isinstance(metrics, str) else metrics,
                # With -s a user can watch a long run. Otherwise its lines would only hide the table of a failure.
                progress=ConsoleProgress() if config.getoption("capture") == "no" else NullProgress(),
            )
        except SaebenchError as error:
            outcome = check.Outcome(check.label(sae), baseline or "its baseline", [], "", (str(error),))
        result = to_result(outcome, self._request.node.nodeid)
        self._request.node.stash.setdefault(_RESULTS, []).append(result)
        if not outcome.passed:
            pytest.fail(message(result), pytrace=False)
        return outcome

    def _mode(self) -> Any:
        from saebench.regression.check import Mode

        if self._config.getoption("--saebench-update"):
            return Mode.UPDATE
        return Mode.NEW_ONLY if self._config.getoption("--saebench-update-new-only") else Mode.COMPARE

    def _baselines(self) -> Path:
        return self._request.path.parent / str(self._config.getini("saebench_baselines"))

    def _results(self) -> Path:
        """Return the folder of records.

        By default it is new for every session, because the code of an SAE may change while its weights do not.
        """
        if folder := self._config.getini("saebench_results"):
            return self._config.rootpath / str(folder)
        factory: pytest.TempPathFactory = self._request.getfixturevalue("tmp_path_factory")
        folder = factory.getbasetemp() / "saebench-results"
        folder.mkdir(exist_ok=True)
        return folder


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, None]:
    outcome = yield
    if results := item.stash.get(_RESULTS, None):
        outcome.get_result().__dict__[_KEY] = results  # pytest-xdist sends the attributes of a report
        del item.stash[_RESULTS]


class _Reporter:
    """Collects the results of all processes. pytest-xdist's workers have none, because their reports arrive here."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._results: list[dict[str, Any]] = []

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._results += getattr(report, _KEY, [])

    def pytest_sessionfinish(self) -> None:
        if self._path is not None:
            from saebench.regression.report import write_report

            write_report(self._path, self._results)

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        if not self._results:
            return
        from saebench.regression.report import summary

        if lines := summary(self._results):
            terminalreporter.section("saebench")
        for line in lines:
            terminalreporter.write_line(line)
