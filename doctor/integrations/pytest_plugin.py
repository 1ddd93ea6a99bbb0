"""The pytest plugin: a `doctor` fixture, and `--doctor cases.py`. Imports nothing of ours until it is used."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from doctor.report import Report


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of the doctor."""
    group = parser.getgroup("doctor")
    group.addoption("--doctor", action="append", default=[], metavar="FILE", help="diagnose the cases declared in FILE")
    parser.addini("doctor_fail_on", "level at which a rule's item fails: error, warning, info", default="warning")
    parser.addini("doctor_steps", "optimizer steps to observe", default="40")


def pytest_configure(config: pytest.Config) -> None:
    """Let the files that `--doctor` names be collected, also when they are no test files."""
    for name in config.getoption("--doctor"):
        if not Path(name).is_file():
            raise pytest.UsageError(f"--doctor: no file {name}; give a Python file that declares doctor.Case objects")
        if str(Path(name).resolve()) not in {str(Path(a.partition("::")[0]).resolve()) for a in config.args}:
            explicit = config.invocation_params.args and config.args_source == pytest.Config.ArgsSource.ARGS
            config.args = [*config.args, name] if explicit else [name]


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """A file of cases becomes a collector of rules."""
    if file_path.resolve() in {Path(name).resolve() for name in parent.config.getoption("--doctor")}:
        return CaseFile.from_parent(parent, path=file_path)
    return None


class CaseFile(pytest.File):
    """One file of declared cases; each rule is an item."""

    def collect(self) -> Iterator[pytest.Item]:
        """One item a rule and case."""
        from doctor import registry
        from doctor.subjects import case

        names = case.names(str(self.path))
        if not names:
            raise self.CollectError(f"{self.path.name} declares no doctor.Case")
        for name in names:
            diagnosed = Diagnosed(str(self.path), name, self.config)
            for rule in registry.load().values():
                yield RuleItem.from_parent(
                    self, name=f"{name}[{rule.code}-{rule.name}]", code=rule.code, diagnosed=diagnosed
                )


class Diagnosed:
    """One case, diagnosed when the first of its items runs."""

    def __init__(self, path: str, name: str, config: pytest.Config) -> None:
        self._path, self._name, self._config = path, name, config
        self._report: Report | None = None

    def report(self) -> Report:
        """The report, made once."""
        if self._report is None:
            from doctor.diagnosis import diagnose
            from doctor.subjects import case

            self._report = diagnose(case.load(self._path, self._name), steps=int(self._config.getini("doctor_steps")))
        return self._report


class Sick(Exception):
    """A rule found something; holds the text to show."""


class RuleItem(pytest.Item):
    """One rule on one case."""

    def __init__(self, *, code: str, diagnosed: Diagnosed, **more: Any) -> None:
        super().__init__(**more)
        self._code, self._diagnosed = code, diagnosed

    def runtest(self) -> None:
        """Fail when the rule has an active finding at the failing level."""
        from doctor.findings import Severity

        report = self._diagnosed.report()
        skipped = next((skip for skip in report.skipped if skip.rule == self._code), None)
        if skipped is not None:
            pytest.skip(skipped.reason)
        level = Severity(self.config.getini("doctor_fail_on"))
        own = tuple(f for f in report.active if f.rule == self._code and f.level.rank <= level.rank)
        if own:
            alone = tuple(finding.revised(caused_by=None) for finding in own)
            raise Sick(report.model_copy(update={"findings": alone}).text)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """The report instead of a traceback."""
        if isinstance(excinfo.value, Sick):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Where the case is declared."""
        return self.path, None, self.name


class DoctorFixture:
    """What the `doctor` fixture gives."""

    def diagnose(self, case: Any = None, **declared: Any) -> Report:
        """The report on a case, or on `model=..., data=..., loss=..., optimizer=...`; other names are settings."""
        from doctor.diagnosis import diagnose
        from doctor.subjects.case import Case

        fields = {"model", "data", "loss", "optimizer", "val", "name"}
        settings = {key: declared.pop(key) for key in list(declared) if key not in fields}
        settings.setdefault("steps", 40)
        if isinstance(settings.get("ignore"), list | tuple):
            settings["ignore"] = dict.fromkeys(settings["ignore"], "test")
        return diagnose(case if case is not None else Case(**declared), **settings)

    def assert_healthy(self, case: Any = None, *, fail_on: str = "warning", **declared: Any) -> Report:
        """Fail with the report's text when a finding is at or above `fail_on`."""
        from doctor.findings import Severity

        report = self.diagnose(case, **declared)
        if report.fails(Severity(fail_on)):
            pytest.fail(report.text, pytrace=False)
        return report


@pytest.fixture
def doctor() -> DoctorFixture:
    """Diagnose models and training loops: `doctor.assert_healthy(model=..., data=..., loss=..., optimizer=...)`."""
    return DoctorFixture()
