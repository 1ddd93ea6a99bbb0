"""Subsets of two data sets over the same samples."""

import pytest

from doctor.evidence.sample_log import SampleLog
from doctor.probes import gather, load
from doctor.subjects.program import Run, ScriptProgram
from doctor.testing import findings_of

PROGRAM = """
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, Subset
torch.manual_seed(0)
class Images(Dataset):
    def __init__(self, augment, seed):
        g = torch.Generator().manual_seed(seed)
        self.x, self.y = torch.randn(400, 64, generator=g), torch.randint(0, 3, (400,), generator=g)
        self.augment = augment
    def __len__(self):
        return 400
    def __getitem__(self, i):
        x = self.x[i]
        return (x + 0.2 * torch.randn(64) if self.augment else x), int(self.y[i])
order = torch.randperm(400).tolist()
train = DataLoader(Subset(Images(True, 0), order[:300]), 30, shuffle=True)
test = DataLoader(Subset(Images(False, SEED), order[FIRST:]), 50)
model = nn.Linear(64, 3)
optimizer = torch.optim.Adam(model.parameters(), 1e-2)
for epoch in range(3):
    for x, y in train:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    with torch.no_grad():
        print(sum((model(x).argmax(1) == y).sum().item() for x, y in test))
"""


@pytest.mark.parametrize(("seed", "first", "leaks"), [(0, 200, True), (0, 300, False), (1, 200, False)])
def test_samples_of_training_are_known_behind_other_transforms(write_script, seed, first, leaks):
    script = write_script(PROGRAM.replace("SEED", str(seed)).replace("FIRST", str(first)))
    recording = ScriptProgram(script, ()).run(Run(40))
    load()
    found = findings_of("DAT003", gather([recording], [SampleLog])[SampleLog])
    assert bool(found) == leaks
