"""The pytest plugin, in pytest runs of its own."""

import subprocess
import sys

CASES = """
import torch
from torch import nn
import doctor

torch.manual_seed(0)
x = torch.randn(256, 4)
batches = [(x[i:i + 32], (x[i:i + 32, 0] > 0).long()) for i in range(0, 256, 32)]

def net(*tail):
    return nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2), *tail)

{name} = doctor.Case(model=lambda: net({tail}), data=batches, loss=nn.functional.cross_entropy)
"""


def test_every_rule_of_a_declared_case_is_an_item(pytester):
    pytester.makepyfile(cases=CASES.format(name="sick", tail="nn.Softmax(1)"))
    result = pytester.runpytest_subprocess("--doctor", "cases.py", "-p", "no:cacheprovider")
    outcomes = result.parseoutcomes()
    assert outcomes["failed"] == 1
    assert outcomes["passed"] > 15
    result.stdout.fnmatch_lines(["*LOS001*softmax-before-cross-entropy*", "*cure*logits*"])
    result.stdout.no_fnmatch_line("*Traceback*")


def test_a_healthy_case_passes(pytester):
    pytester.makepyfile(cases=CASES.format(name="well", tail=""))
    result = pytester.runpytest_subprocess("--doctor", "cases.py", "-p", "no:cacheprovider")
    assert "failed" not in result.parseoutcomes()


def test_the_fixture_asserts_health_and_fails_with_the_report(pytester):
    pytester.makepyfile(
        """
        import torch
        from torch import nn

        def batches():
            torch.manual_seed(0)
            x = torch.randn(256, 4)
            return [(x[i:i + 32], (x[i:i + 32, 0] > 0).long()) for i in range(0, 256, 32)]

        def test_well(doctor):
            doctor.assert_healthy(model=nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2)),
                                  data=batches(), loss=nn.functional.cross_entropy,
                                  optimizer=lambda p: torch.optim.Adam(p, lr=1e-2))

        def test_sick(doctor):
            doctor.assert_healthy(model=nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2), nn.Softmax(1)),
                                  data=batches(), loss=nn.functional.cross_entropy)

        def test_ignored(doctor):
            doctor.assert_healthy(model=nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2), nn.Softmax(1)),
                                  data=batches(), loss=nn.functional.cross_entropy, ignore=["LOS001"])
        """
    )
    result = pytester.runpytest_subprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["*error?LOS001? softmax-before-cross-entropy*"])


def test_a_suite_with_its_own_checks_and_fixtures_is_left_alone(pytester):
    pytester.makepyfile(checks="VALUE = 1", fixtures="VALUE = 2")
    pytester.makepyfile(
        test_own="import checks, fixtures\ndef test_own():\n    assert (checks.VALUE, fixtures.VALUE) == (1, 2)\n"
    )
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)


def test_merely_being_installed_imports_nothing_heavy():
    code = (
        "import sys, doctor.integrations.pytest_plugin\n"
        "print(sorted({'torch', 'pydantic', 'rich', 'pandas', 'click'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
