"""Generators, their critics, and representations that collapse."""

from doctor.evidence.base import Source
from doctor.evidence.critic_log import Critic, CriticLog
from doctor.evidence.loss_terms import LossTerms, Term
from doctor.evidence.module_tree import ModuleTree
from doctor.evidence.op_tape import OpTape
from doctor.evidence.output_spread import OutputSpread, Spread
from doctor.evidence.training_trace import Step, TrainingTrace
from doctor.probes import gather, load
from doctor.subjects.program import Run, ScriptProgram
from doctor.testing import findings_of

HERE = Source("train.py", 30)


def adversary(cut, through):
    return findings_of("LOS011", CriticLog((Critic(1, "", 0, cut=cut, through=through, source=HERE),)))


def test_a_generator_that_helps_its_critic_fires_on_its_line():
    for sign in (1, -1):
        (finding,) = adversary((0.1 * sign,) * 20, (0.2 * sign,) * 20)
        assert (finding.name, finding.location.line) == ("loss-sign", 30)


def test_rivals_undecided_critics_and_few_steps_are_silent():
    assert not adversary((0.1,) * 20, (-0.1,) * 20)
    assert not adversary((0.1, -0.1) * 10, (-0.1,) * 20)
    assert not adversary((0.1,) * 4, (0.1,) * 4)


def falling(to):
    return TrainingTrace(tuple(Step(i, 0, 1.0 - (1 - to) * min(1, i / 30), 1e-3, 1.0, 10.0, 1e-3) for i in range(80)))


def collapse(first, last, to):
    terms = LossTerms((Term("mean", HERE),), HERE)
    return findings_of("LOS013", OutputSpread((Spread(0, first, last, 75),)), falling(to), terms)


def test_equal_outputs_at_a_loss_of_zero_miss_a_term():
    (finding,) = collapse(0.4, 0.01, 0.001)
    assert (finding.name, finding.location.line) == ("missing-loss-term", 30)


def test_outputs_that_differ_and_losses_that_stand_are_silent():
    assert not collapse(0.4, 0.5, 0.001)
    assert not collapse(0.02, 0.01, 0.001)
    assert not collapse(0.4, 0.01, 0.5)


PROGRAM = """
import torch
from torch import nn
torch.manual_seed(0)
G = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, 6), nn.LAST())
D = nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 1))
to_d, to_g = torch.optim.Adam(D.parameters(), 1e-3), torch.optim.Adam(G.parameters(), 1e-3)
bce = nn.BCEWithLogitsLoss()
for step in range(30):
    real = torch.tanh(torch.randn(16, 6))
    made = G(torch.randn(16, 4))
    loss = bce(D(real), torch.ones(16, 1)) + bce(D(made.detach()), torch.zeros(16, 1))
    to_d.zero_grad()
    loss.backward()
    to_d.step()
    loss = bce(D(SEEN), torch.WANTED(16, 1))
    to_g.zero_grad()
    loss.backward()
    to_g.step()
"""


def observed(write_script, last="Tanh", seen="made", wanted="ones"):
    text = PROGRAM.replace("LAST", last).replace("SEEN", seen).replace("WANTED", wanted)
    recording = ScriptProgram(write_script(text), ()).run(Run(60))
    load()
    return recording


def test_a_program_whose_generator_has_the_critics_label(write_script):
    critics = gather([observed(write_script, wanted="zeros")], [CriticLog])[CriticLog]
    assert findings_of("LOS011", critics)[0].location.line == 16
    assert critics.critics[0].cuts[0].line == 12


def test_a_program_whose_generator_cannot_make_negative_values(write_script):
    records = gather([observed(write_script, last="ReLU")], [CriticLog, OpTape, ModuleTree])
    (finding,) = findings_of("ARC006", *records.values())
    assert finding.location.line == 5
    assert "generator" in finding.message


SCALAR = """
import torch
from torch import nn
torch.manual_seed(0)
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 1)
    def forward(self, x, y):
        return nn.functional.mse_loss(self.layer(x), y)
net = Net()
optimizer = torch.optim.SGD(net.parameters(), 0.01)
for step in range(20):
    loss = net(torch.randn(8, 4), torch.randn(8, 1))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""


def test_a_model_that_returns_its_loss_is_watched_without_a_failure(write_script):
    assert not ScriptProgram(write_script(SCALAR), ()).run(Run(40)).end["notes"]


def test_a_sound_program_is_silent(write_script):
    records = gather([observed(write_script)], [CriticLog, OpTape, ModuleTree])
    assert not findings_of("ARC006", *records.values())
    assert not findings_of("LOS011", records[CriticLog])
