"""A small sample of the mutation benchmark, always the same: the doctor finds these faults, and is silent on these programs."""

import pytest

from benchmarks.examination import examine
from benchmarks.mutations import load, run
from benchmarks.programs import healthy, specimens, written

SICK = [
    ("healthy/lstm_forecast", "drop-zero-grad"),
    ("healthy/two_towers", "loss-detached"),
    ("healthy/churn_accumulate", "sigmoid-before-bce-with-logits"),
    ("tabular_classification/train", "eval-dropped"),
    ("tabular_regression/train", "squeeze-dropped"),
]
HEALTHY = ["healthy/bpr.py", "healthy/gcn_communities.py", "healthy/churn_accumulate.py"]


@pytest.mark.slow
@pytest.mark.parametrize(("name", "operator"), SICK)
def test_fault_is_found_first_on_its_line(name, operator):
    specimen = next(s for s in specimens([f"{name}.py"], [operator]) if s.mutant.operator == operator)
    with written(specimen) as program:
        outcome = examine(program, ["--no-confirm"])
    assert not outcome.failure
    assert outcome.first, outcome
    assert outcome.on_line, outcome


@pytest.mark.slow
@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_program_is_met_with_silence(name):
    outcome = examine(healthy([name])[0], ["--no-confirm"])
    assert not outcome.failure
    assert outcome.alarms == []


@pytest.mark.slow
def test_kept_outcomes_are_not_made_again(tmp_path, capsys):
    keep = tmp_path / "outcomes.jsonl"
    chosen = list(specimens(["healthy/bpr.py"], ["drop-zero-grad"]))
    first = run(chosen, keep=keep, with_healthy=False)
    capsys.readouterr()
    assert run(chosen, keep=keep, with_healthy=False) == first == load(keep)
    assert capsys.readouterr().out == ""
