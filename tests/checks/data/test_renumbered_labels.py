"""Labels numbered anew in evaluation."""

import pytest

from doctor.evidence.base import Source
from doctor.evidence.class_agreement import Agreement, ClassAgreement
from doctor.evidence.data_lines import DataLine, DataLines
from doctor.probes import gather, load
from doctor.subjects.program import Run, ScriptProgram
from doctor.testing import findings_of

GOOD = ((90, 5, 5), (5, 90, 5), (5, 5, 90))
SWAPPED = ((5, 90, 5), (90, 5, 5), (5, 5, 90))


def judged(evaluation, training=GOOD, lines=None):
    records = [ClassAgreement((Agreement(training, evaluation, 1, Source("train.py", 60)),))]
    return findings_of("DAT006", *records, *([lines] if lines else []))


def test_two_labels_that_changed_places_fire_where_labels_are_numbered():
    (finding,) = judged(SWAPPED)
    assert (finding.name, finding.location.line) == ("label-encoding", 60)
    assert "0 as 1, 1 as 0" in finding.message
    lines = DataLines(
        (
            DataLine("assign", "factorize", Source("train.py", 20), names=("codes", "labels")),
            DataLine("assign", "factorize", Source("train.py", 21), names=("y_val", "_"), arguments=("labels", "val")),
            DataLine("assign", "Linear", Source("train.py", 30), names=("label_head",)),
        )
    )
    assert judged(SWAPPED, lines=lines)[0].location.line == 21


@pytest.mark.parametrize(
    "evaluation",
    [
        GOOD,
        ((40, 30, 30), (35, 40, 25), (30, 30, 40)),  # overfitted
        ((5, 90, 5), (5, 90, 5), (5, 90, 5)),  # one class for all
        ((5, 9, 0), (9, 5, 0), (0, 0, 90)),  # few
    ],
)
def test_good_poor_and_few_evaluations_are_silent(evaluation):
    assert not judged(evaluation)


def test_labels_that_training_lacks_or_confuses_are_silent():
    assert not judged(SWAPPED, training=((0, 0, 0), (5, 90, 5), (5, 5, 90)))
    assert not judged(SWAPPED, training=((45, 45, 10), (45, 45, 10), (5, 5, 90)))


PROGRAM = """
import pandas as pd
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
torch.manual_seed(0)
kinds = torch.randint(0, 3, (900,))
x = nn.functional.one_hot(kinds, 3).float() + 0.2 * torch.randn(900, 3)
names = pd.Series(["red", "green", "blue"]).iloc[kinds].reset_index(drop=True)
y_train = torch.as_tensor(pd.factorize(names[:600], sort=True)[0])
y_val = torch.as_tensor(2 - pd.factorize(names[600:], sort=True)[0])
train = DataLoader(TensorDataset(x[:600], y_train), 32, shuffle=True)
val = DataLoader(TensorDataset(x[600:], y_val), 100)
model = nn.Sequential(nn.Linear(3, 16), nn.ReLU(), nn.Linear(16, 3))
optimizer = torch.optim.Adam(model.parameters(), 1e-2)
for epoch in range(3):
    for a, b in train:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(a), b).backward()
        optimizer.step()
    right = 0
    with torch.no_grad():
        for a, b in val:
            right += (model(a).argmax(1) == b).sum().item()
    print(right / 300)
"""

AHEAD = """
def ahead(loader):
    batches = iter(loader)
    batch = next(batches)
    for following in batches:
        yield batch
        batch = following
    yield batch
"""


def gathered(path):
    recording = ScriptProgram(path, ()).run(Run(60))
    load()
    return gather([recording], [ClassAgreement, DataLines])


def test_a_program_that_numbers_its_labels_split_by_split(write_script):
    records = gathered(write_script(PROGRAM))
    found = records[ClassAgreement]
    (finding,) = findings_of("DAT006", found, records[DataLines])
    assert finding.location.line == 11
    assert "0 as 2" in finding.message
    assert [place.loader for place in found.places] == [1]


def test_loaders_that_are_a_batch_ahead_of_the_model_are_held_against_the_right_labels(write_script):
    alike = PROGRAM.replace("2 - pd.factorize", "pd.factorize").replace("100)", "60)")
    imported = AHEAD + alike.replace("in val:", "in ahead(val):")
    (place,) = gathered(write_script(imported))[ClassAgreement].places
    assert place.samples == 300
    assert all(place.named(label)[0] == label and place.named(label)[1] > 0.9 for label in range(3))
