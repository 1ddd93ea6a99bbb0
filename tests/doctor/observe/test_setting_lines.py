"""On which lines an optimizer's settings stand."""

import textwrap

from doctor import probes
from doctor.evidence.optimizer_log import OptimizerLog
from doctor.observe.setting_lines import setting_lines
from doctor.subjects.program import Run, script_program


def observed(tmp_path, monkeypatch, text, steps=2):
    (tmp_path / "train.py").write_text(textwrap.dedent(text))
    monkeypatch.chdir(tmp_path)
    recording = script_program("train.py", (), 60).run(Run(steps))
    probes.load()
    return probes.gather([recording], [OptimizerLog])[OptimizerLog].optimizers[0]


def test_each_keyword_of_a_call_over_several_lines_has_its_own(tmp_path, monkeypatch):
    optimizer = observed(
        tmp_path,
        monkeypatch,
        """\
        import torch
        net = torch.nn.Linear(3, 1)
        optimizer = torch.optim.SGD(
            net.parameters(),
            lr=0.1,
            momentum=0.5,
        )
        for _ in range(2):
            optimizer.zero_grad()
            net(torch.ones(4, 3)).mean().backward()
            optimizer.step()
        """,
    )
    assert str(optimizer.source_of("momentum")) == "train.py:6"
    assert str(optimizer.source_of("lr")) == "train.py:5"
    assert str(optimizer.source_of("weight_decay")) == "train.py:3"


def test_settings_of_a_trainer_stand_where_its_arguments_are_made():
    text = "args = TrainingArguments(\n    'out',\n    learning_rate=3.0,\n)\ntrainer = Trainer(args=args)\ntrainer.train()\n"
    lines = setting_lines(text, ["train.py", 6, "<module>"], True)
    assert lines["lr"][:2] == ["train.py", 3]
    assert lines[""][:2] == ["train.py", 1]


def test_two_sets_of_arguments_leave_the_line_open():
    text = "a = TrainingArguments('a', learning_rate=3.0)\nb = TrainingArguments('b')\nTrainer(args=a).train()\n"
    assert setting_lines(text, ["train.py", 3, "<module>"], True) == {}
