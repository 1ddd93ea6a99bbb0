"""Padding that outputs depend on, in models that are run."""

import pytest

from doctor.evidence.metamorphic import Metamorphic
from doctor.probes import gather, load
from doctor.subjects.program import Run, ScriptProgram
from doctor.testing import findings_of

DECODER = """
import torch
from torch import nn
torch.manual_seed(0)
ids = torch.randint(1, 40, (320, 20))
ids = ids.masked_fill(torch.arange(20) < torch.randint(0, 12, (320, 1)), 0)
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.places = nn.Embedding(40, 32), nn.Embedding(20, 32)
        layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True)
        self.body, self.head = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False), nn.Linear(32, 40)
        self.register_buffer("future", torch.full((20, 20), float("-inf")).triu(1))
    def forward(self, ids):
        x = self.embed(ids) + self.places.weight[: ids.shape[1]]
        empty = torch.where(ids == 0, float("-inf"), 0.0)[:, None].expand(-1, 20, -1) + self.future
        empty = empty.clamp_min(-1e9).repeat_interleave(4, 0)
        return self.head(self.body(x, mask=MASK))
model = Model()
optimizer = torch.optim.Adam(model.parameters(), 1e-3)
for step in range(20):
    batch = ids[16 * step : 16 * step + 16]
    loss = nn.functional.cross_entropy(model(batch)[:, :-1].reshape(-1, 40), batch[:, 1:].reshape(-1), ignore_index=0)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""

TRANSLATOR = """
import torch
from torch import nn
torch.manual_seed(0)
read = torch.randint(1, 40, (320, 20))
read = read.masked_fill(torch.arange(20) >= torch.randint(6, 20, (320, 1)), 0)
written = torch.randint(1, 40, (320, 9))
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.places = nn.Embedding(40, 32), nn.Embedding(20, 32)
        self.body = nn.Transformer(32, 4, 1, 1, 64, dropout=0.0, batch_first=True)
        self.head = nn.Linear(32, 40)
    def forward(self, read, written):
        a = self.embed(read) + self.places.weight[: read.shape[1]]
        b = self.embed(written) + self.places.weight[: written.shape[1]]
        future = nn.Transformer.generate_square_subsequent_mask(written.shape[1])
        return self.head(self.body(a, b, tgt_mask=future, MASK))
model = Model()
optimizer = torch.optim.Adam(model.parameters(), 1e-3)
for step in range(20):
    source, target = read[16 * step : 16 * step + 16], written[16 * step : 16 * step + 16]
    loss = nn.functional.cross_entropy(model(source, target[:, :-1]).reshape(-1, 40), target[:, 1:].reshape(-1))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""


def found(write_script, text, mask):
    recording = ScriptProgram(write_script(text.replace("MASK", mask)), ()).run(Run(60))
    load()
    return findings_of("ARC010", gather([recording], [Metamorphic])[Metamorphic])


def test_padding_before_texts_that_attention_sees(write_script):
    (finding,) = found(write_script, DECODER, "self.future")
    assert finding.severity == "warning"
    assert "padding before ids" in finding.message


def test_padding_before_texts_that_is_masked(write_script):
    assert not found(write_script, DECODER, "empty")


def test_padding_of_an_encoder_that_its_decoder_sees(write_script):
    (finding,) = found(write_script, TRANSLATOR, "")
    assert finding.severity == "warning"


@pytest.mark.parametrize("mask", ["src_key_padding_mask=read == 0, memory_key_padding_mask=read == 0"])
def test_padding_of_an_encoder_that_is_masked(write_script, mask):
    assert not found(write_script, TRANSLATOR, mask)


COUNTED = """
import torch
from torch import nn
torch.manual_seed(0)
ids = torch.randint(1, 40, (320, 20))
ids = ids.masked_fill(torch.arange(20) >= torch.randint(6, 20, (320, 1)), 0)
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.places = nn.Embedding(40, 32), nn.Embedding(20, 32)
        layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.0, batch_first=True)
        self.body, self.head = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False), nn.Linear(32, 4)
    def forward(self, ids, count):
        x = self.embed(ids) + self.places.weight[: ids.shape[1]]
        return self.head(self.body(x, MASK)[:, 0]) / count
model = Model()
optimizer = torch.optim.Adam(model.parameters(), 1e-3)
for step in range(20):
    batch = ids[16 * step : 16 * step + 16]
    loss = nn.functional.cross_entropy(model(batch, torch.tensor(1.0)), batch[:, 0] % 4)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
"""


def test_a_count_beside_the_ids_is_no_hindrance(write_script):
    assert found(write_script, COUNTED, "")
    assert not found(write_script, COUNTED, "src_key_padding_mask=ids == 0")
