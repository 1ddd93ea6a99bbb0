"""What the gate loads: the rules and evidence about artifacts, all of them and no others."""

import json
import subprocess
import sys

import pytest
import torch

from doctor import probes, registry
from doctor.evidence.artifact_source import ArtifactSource
from doctor.gate import EVIDENCE, gate

SMALL = """
import json, sys
import doctor.gate
from doctor.config import Settings

settings = Settings(**json.loads(sys.argv[1]))
report = doctor.gate.gate(sys.argv[2], settings)
loaded = sorted(name for name in sys.modules if name.startswith("doctor.evidence."))
print(json.dumps([report.fine, [[skip.rule, skip.reason] for skip in report.skipped], loaded]))
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("model") / "net.onnx"
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(6, 4), torch.nn.ReLU())
    torch.onnx.export(
        net, (torch.zeros(2, 6),), str(path), dynamo=False, input_names=["x"], dynamic_axes={"x": {0: "n"}}
    )
    return path


def alone(path, **settings):
    """The gate in a process of its own: rules that ran, those skipped with their reasons, the evidence loaded."""
    command = [sys.executable, "-c", SMALL, json.dumps(settings), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_it_looks_with_every_rule_and_imports_no_evidence_of_other_subjects(model):
    probes.load()
    registry.load()  # all rules, so that the gate here looks with whatever concerns artifacts
    report = gate(str(model))
    fine, skipped, loaded = alone(model)
    assert fine == list(report.fine)
    assert skipped == [[skip.rule, skip.reason] for skip in report.skipped]
    assert "doctor.evidence.loss_calls" not in loaded


def test_the_evidence_about_artifacts_is_named_in_full():
    probes.load()
    looks = [look for rule in registry.load().values() for look in rule.looks_at((ArtifactSource,))]
    asked = {need.kind for look in looks for need in look.needs if ArtifactSource in probes.roots(need.kind)}
    kinds = {kind for ask in asked for kind in probes.computed_from(ask)}
    assert {kind.__module__ for kind in kinds} == {f"doctor.evidence.{name}" for name in EVIDENCE}
    for kind in kinds & probes.registered().keys():
        assert probes.registered()[kind].function.__module__ == kind.__module__


@pytest.mark.parametrize("settings", [{"select": ["FIL", "DAT001"]}, {"ignore": {"OPT": "not asked here"}}])
def test_selectors_of_other_rules_are_known(model, settings):
    fine, _, _ = alone(model, **settings)
    assert "FIL001" in fine
    assert ("WGT001" in fine) == ("ignore" in settings)


def test_a_rule_set_that_promises_nothing_is_loaded_whole(monkeypatch, tmp_path):
    package = tmp_path / "shop_rules"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "own.py").write_text("LOADED = True\n")
    monkeypatch.syspath_prepend(str(tmp_path))

    class Announced:
        name, value, dist = "shop", "shop_rules", None

        def load(self):
            import shop_rules

            return shop_rules

    monkeypatch.setattr(registry.importlib.metadata, "entry_points", lambda group: [Announced()])
    registry.load(using=EVIDENCE)
    assert sys.modules["shop_rules.own"].LOADED
    del sys.modules["shop_rules.own"]
    (package / "__init__.py").write_text("NAMES_ITS_EVIDENCE = True\n")
    import importlib

    importlib.reload(sys.modules["shop_rules"])
    registry.load(using=EVIDENCE)
    assert "shop_rules.own" not in sys.modules
