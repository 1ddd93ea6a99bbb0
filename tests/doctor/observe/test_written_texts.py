"""Evaluations that write texts id by id."""

from doctor.evidence.sample_log import SampleLog
from doctor.probes import gather, load
from doctor.subjects.program import Run, ScriptProgram
from doctor.testing import findings_of

PROGRAM = """
import torch
from torch import nn
torch.manual_seed(0)
read = torch.randint(3, 40, (700, 16))
written = torch.cat([torch.ones(700, 1, dtype=torch.long), read.flip(1)], 1)
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Embedding(40, 16), nn.Linear(32, 40)
        self.encoder, self.decoder = nn.GRU(16, 32, batch_first=True), nn.GRU(16, 32, batch_first=True)
    def forward(self, read, written):
        _, state = self.encoder(self.embed(read))
        return self.head(self.decoder(self.embed(written), state)[0])
model = Model()
optimizer = torch.optim.Adam(model.parameters(), 1e-3)
for epoch in range(1):
    for i in range(0, 600, 20):
        source, target = read[i : i + 20], written[i : i + 20]
        loss = nn.functional.cross_entropy(model(source, target[:, :-1]).reshape(-1, 40), target[:, 1:].reshape(-1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
with torch.no_grad():
    text = torch.ones(100, 1, dtype=torch.long)
    for place in range(16):
        text = torch.cat([text, model(HELD, text)[:, -1:].argmax(-1)], 1)
    print((text[:, 1:] == HELD.flip(1)).float().mean())
"""


def leaks(write_script, held):
    recording = ScriptProgram(write_script(PROGRAM.replace("HELD", held)), ()).run(Run(80))
    load()
    return findings_of("DAT003", gather([recording], [SampleLog])[SampleLog])


def test_texts_that_were_trained_on_are_known_though_the_decoder_writes_others(write_script):
    assert leaks(write_script, "read[550:650]")


def test_new_texts_are_silent(write_script):
    assert not leaks(write_script, "read[600:700]")
