"""Samples that come one id after the other."""

from doctor.evidence.base import Source
from doctor.evidence.data_lines import DataLine, DataLines
from doctor.evidence.id_order import IdField, IdOrder
from doctor.probes import gather, load
from doctor.subjects.program import Run, ScriptProgram
from doctor.testing import findings_of

HERE = Source("train.py", 30, "train")


def judged(calls, lines=None):
    records = [IdOrder((IdField("user", tuple(calls), HERE),)), *([lines] if lines else [])]
    return findings_of("DAT014", *records)


def test_ids_that_rise_epoch_after_epoch_fire_where_the_order_is_made():
    calls = [(10 * i, 10 * i + 9, True) for i in range(12)] * 2
    (finding,) = judged(calls)
    assert (finding.name, finding.location.line) == ("unshuffled-data", 30)
    assert "ids of user rise" in finding.message
    made = DataLines((DataLine("assign", "arange", Source("train.py", 22), names=("order",)),))
    assert judged(calls, made)[0].location.line == 22


def test_drawn_ids_and_ids_sorted_within_each_batch_are_silent():
    assert not judged([(7 * i % 12, 5 * i % 11, False) for i in range(24)])
    assert not judged([(i % 3, 90 + i % 5, True) for i in range(24)])


def test_few_calls_and_few_ids_tell_nothing():
    assert not judged([(10 * i, 10 * i + 9, True) for i in range(5)])
    assert not judged([(i // 8, i // 8, True) for i in range(24)])


PROGRAM = """
import torch
from torch import nn
torch.manual_seed(0)
users = torch.arange(40).repeat_interleave(20)
items = torch.randint(0, 30, (800,))
ratings = torch.randn(800)
class Factors(nn.Module):
    def __init__(self):
        super().__init__()
        self.users, self.items = nn.Embedding(40, 8), nn.Embedding(30, 8)
    def forward(self, user, item):
        return (self.users(user) * self.items(item)).sum(1)
model = Factors()
optimizer = torch.optim.Adam(model.parameters(), 1e-2)
for epoch in range(2):
    order = torch.ORDER(800)
    for i in range(0, 800, 32):
        idx = order[i : i + 32]
        optimizer.zero_grad()
        nn.functional.mse_loss(model(users[idx], items[idx]), ratings[idx]).backward()
        optimizer.step()
"""


def observed(write_script, order):
    recording = ScriptProgram(write_script(PROGRAM.replace("ORDER", order)), ()).run(Run(60))
    load()
    records = gather([recording], [IdOrder, DataLines])
    return findings_of("DAT014", records[IdOrder], records[DataLines])


def test_a_program_that_takes_users_in_order(write_script):
    (finding,) = observed(write_script, "arange")
    assert finding.location.line == 17


def test_a_program_that_draws_its_order(write_script):
    assert not observed(write_script, "randperm")
