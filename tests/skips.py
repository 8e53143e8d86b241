"""A pytest plugin about tests that are skipped because a package or program is missing.

`--skipped-to FILE` writes the ids of those tests, one per line, so that a later run with everything installed can take
exactly them (`pytest @FILE`). `--no-skips` turns such a skip into a failure. A skip for hardware is none of the two:
its reason names a GPU, CUDA or TensorRT.
"""

import pathlib
import re
from collections.abc import Generator

import pytest

HARDWARE = re.compile(r"\b(GPUs?|CUDA|TensorRT)\b", re.IGNORECASE)


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("skips")
    group.addoption("--skipped-to", metavar="FILE", help="write the ids of tests skipped for a package or program here")
    group.addoption("--no-skips", action="store_true", help="a test skipped for a package or program is a failure")


def pytest_configure(config: pytest.Config) -> None:
    # Worker processes of pytest-xdist send their reports to the one process that writes the file.
    if config.getoption("skipped_to") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(SkippedTests(pathlib.Path(config.getoption("skipped_to"))))


def for_software(report: pytest.TestReport | pytest.CollectReport) -> bool:
    """Returns whether a report is that of a test skipped for something that can be installed."""
    if not report.skipped or hasattr(report, "wasxfail"):  # an expected failure counts as skipped too
        return False
    return not HARDWARE.search(_reason(report))


def _reason(report: pytest.TestReport | pytest.CollectReport) -> str:
    return report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)


class SkippedTests:
    """Collects the ids of skipped tests, and of modules skipped as a whole, and writes them at the end."""

    def __init__(self, path: pathlib.Path) -> None:
        self._path = path
        self._ids: set[str] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if for_software(report):
            self._ids.add(report.nodeid)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if for_software(report):
            self._ids.add(report.nodeid)

    def pytest_sessionfinish(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text("".join(f"{one}\n" for one in sorted(self._ids)), encoding="utf-8")


def _refuse(report: pytest.TestReport | pytest.CollectReport) -> None:
    reason = _reason(report)
    report.outcome = "failed"
    report.longrepr = f"{report.nodeid}: expected no skip (--no-skips). Received: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if item.config.getoption("no_skips") and for_software(report):
        _refuse(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    if collector.config.getoption("no_skips") and for_software(report):
        _refuse(report)
    return report
