"""A program with two faults gets both, also when either cure alone changes nothing."""

import json

PROGRAM = """
import torch
from sklearn.datasets import load_digits
from torch import nn

torch.manual_seed(0)
digits = load_digits()
x = torch.tensor(digits.data, dtype=torch.float32) / 16
y = torch.tensor(digits.target)
net = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
opt = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
for epoch in range(4):
    for rows in torch.randperm(len(x)).split(64):
        loss = nn.functional.cross_entropy(torch.softmax(net(x[rows]), dim=1), y[rows])
        loss.backward()
        opt.step()
"""


def test_two_mistakes_that_hide_each_others_cure_are_both_confirmed(write_script, run_doctor, tmp_path):
    run_doctor("diagnose", write_script(PROGRAM), "--isolated", "-q", "--output", "report.json")
    findings = json.loads((tmp_path / "report.json").read_text())["findings"]
    verdicts = {f["rule"]: f["verdict"] for f in findings}
    assert verdicts["LOS001"] == verdicts["OPT003"] == "confirmed", verdicts
    tops = [f["effect"]["on_top_of"] for f in findings if f["rule"] in ("LOS001", "OPT003")]
    assert any(tops)
