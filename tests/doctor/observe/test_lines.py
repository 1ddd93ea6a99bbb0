"""Lines that findings point at: of the operation behind a derivative, of the constructor behind a helper."""

from doctor import diagnose
from doctor.evidence.module_tree import ModuleTree
from doctor.probes import gather, load
from doctor.subjects.program import Run, ScriptProgram

ROOT = """
import torch
from torch import nn
torch.manual_seed(0)
layer = nn.Linear(4, 4)
optimizer = torch.optim.SGD(layer.parameters(), 0.01)
x = torch.randn(16, 4)
for step in range(12):
    distance = (layer(x) - layer(x)).pow(2).sum(1)
    length = distance.sqrt()
    loss = length.mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""


def test_a_derivative_that_is_not_finite_is_told_at_the_operation_that_it_is_of(write_script):
    report = diagnose(ScriptProgram(write_script(ROOT), ()), confirm=False)
    finding = next(found for found in report.findings if found.rule == "GRD003")
    assert finding.location.line == 10
    assert "derivative of" in finding.message


HELPED = """
import torch
from torch import nn
def block(width):
    return nn.Sequential(nn.Linear(width, width), nn.ReLU())
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = block(4)
        self.spare = block(4)
        self.last = nn.Linear(4, 1)
    def forward(self, x):
        return self.last(self.first(x))
net = Net()
optimizer = torch.optim.SGD(net.parameters(), 0.01)
for step in range(12):
    loss = net(torch.randn(8, 4)).pow(2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""


def test_a_layer_that_a_helper_makes_is_known_by_the_constructor_that_asked_for_it(write_script):
    recording = ScriptProgram(write_script(HELPED), ()).run(Run(20))
    load()
    tree = gather([recording], [ModuleTree])[ModuleTree]
    assert tree.module("spare").wanted.line == 10
    assert tree.module("spare.0").created.line == 5
    assert tree.module("last").wanted is None
