"""One real diagnosis, one real judgement of an artifact, and a report whose every text is hostile."""

import os
from pathlib import Path

import pytest
from safetensors.numpy import save_file

from doctor.config import Settings
from doctor.diagnosis import diagnose_target
from doctor.findings import Effect, Finding, Location, Measure, Rate, Related, Severity, Verdict
from doctor.gate import gate
from doctor.report import Report, SkippedRule, SubjectSummary, summarise

SICK = """
import torch
from torch import nn
torch.manual_seed(0)
x = torch.randn(512, 6)
y = x.sum(1) * 2 + 1
model = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
for step in range(60):
    idx = torch.randint(0, 512, (64,))
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(x[idx]), y[idx])
    loss.backward()
    optimizer.step()
"""
NASTY = "a,b::c\r\n::error file=x::injected </script><script>alert(1)</script> \x1b[31m\x00 `rm` |x| @all #1 % ]]> &amp; \ud800"


@pytest.fixture(scope="session")
def program(tmp_path_factory):
    """The folder of a sick script, and the report on it, trial included."""
    import numpy  # noqa: F401  (loaded before the working folder changes)

    folder = tmp_path_factory.mktemp("program")
    (folder / "train.py").write_text(SICK, encoding="utf-8")
    here = Path.cwd()
    os.chdir(folder)
    try:
        return folder, diagnose_target("train.py", (), Settings(steps=40, confirm_seeds=1))
    finally:
        os.chdir(here)


@pytest.fixture
def diagnosed(program, monkeypatch) -> Report:
    """The report on the sick script, seen from its folder."""
    monkeypatch.chdir(program[0])
    for name in ("GITHUB_WORKSPACE", "CI_PROJECT_DIR", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(name, raising=False)
    return program[1]


@pytest.fixture
def judged(tmp_path, monkeypatch) -> Report:
    """The report on a file of weights that is cut off, in a subfolder of a repository."""
    import numpy

    (tmp_path / ".git").mkdir()
    (tmp_path / "models").mkdir()
    whole = tmp_path / "models" / "net.safetensors"
    save_file({"a.weight": numpy.ones((8, 8), numpy.float32)}, whole)
    whole.write_bytes(whole.read_bytes()[:-40])
    monkeypatch.chdir(tmp_path / "models")
    for name in ("GITHUB_WORKSPACE", "CI_PROJECT_DIR"):
        monkeypatch.delenv(name, raising=False)
    return gate("net.safetensors")


def _report_of(*findings: Finding, skipped: tuple[SkippedRule, ...] = (), target: str = "train.py", **more) -> Report:
    """A report made by hand."""
    return Report(
        subject=SubjectSummary(kind="program", target=target),
        summary=summarise(findings, skipped, ("OPT005",), 1.0, 0),
        findings=findings,
        skipped=skipped,
        fine=("OPT005",),
        **more,
    )


def _finding(rule="OPT003", **fields) -> Finding:
    """A finding made by hand."""
    given = {
        "message": "gradients stay",
        "name": "missing-zero-grad",
        "family": "optimizer",
        "severity": Severity.ERROR,
    }
    return Finding(rule=rule, **{**given, **fields})


@pytest.fixture
def nasty() -> Report:
    """Hostile texts in every field; the file's name is no UTF-8."""
    effect = Effect(
        statistic=NASTY,
        control=None,
        treated=0.1,
        steps=4,
        control_curve=(1.0, 2.0, float("inf"), float("nan")),
        treated_curve=(1.0, 0.5, 0.2, 0.1),
        rates=(
            Rate(factor=1.0, learning_rate=1.0, loss=None),
            Rate(factor=0.1, learning_rate=0.1, loss=0.1, best=True),
        ),
        suggestion=NASTY,
        note=NASTY,
    )
    cause = _finding(
        message=NASTY,
        location=Location(path=os.fsdecode(b"src/na\xefve, a:b%20\n.py"), line=3, module=NASTY, tensor=NASTY),
        measured={NASTY: Measure(value=NASTY, threshold=float("nan"), unit=NASTY)},
        remedy=NASTY,
        effect=effect,
        verdict=Verdict.CONFIRMED,
        related=(Related(location=Location(path=NASTY, line=1), message=NASTY),),
    )
    symptom = _finding("GRD002", name="exploding-gradients", family="gradients", message=NASTY, caused_by=0)
    accepted = _finding("LOS004", name="broadcast-loss", message=NASTY, suppressed={"by": "baseline", "why": NASTY})
    foreign = _finding("ZZZ999", name="of-a-pack-not-installed", message=NASTY, severity=Severity.WARNING)
    return _report_of(
        cause,
        symptom,
        accepted,
        foreign,
        skipped=(SkippedRule(rule="DAT019", reason=NASTY), SkippedRule(rule="DAT026", reason="crashed (KeyError: 1)")),
        target=os.fsdecode(b"tr\xffin.py"),
        notes=(NASTY,),
        unused_suppressions=(NASTY,),
        evidence={NASTY: [{NASTY: NASTY}], "trace": [{"loss": 1.0}, {"loss": None}, {"loss": 0.5}]},
    )


@pytest.fixture
def report_of():
    """Make a report of findings."""
    return _report_of


@pytest.fixture
def finding():
    """Make a finding."""
    return _finding
