"""Each edit on the ways in which people write the line."""

import difflib
import textwrap
from pathlib import Path

import pytest

from doctor.patches import edits
from doctor.patches.source import CannotEdit, Project
from doctor.patches.surgery import perform

FIXTURES = Path(__file__).resolve().parents[3] / "fixtures"


@pytest.fixture
def edited(tmp_path):
    """Make an edit at the line that holds a mark; give the lines taken away and the lines put in."""

    def make(edit, text: str, mark: str, module: str = ""):
        text = textwrap.dedent(text).lstrip("\n")
        line = next(i for i, row in enumerate(text.splitlines(), 1) if mark in row)
        (tmp_path / "train.py").write_bytes(text.encode())
        new = perform(edit, Project(tmp_path), "train.py", line, module)[tmp_path / "train.py"].decode()
        rows = list(difflib.ndiff(text.splitlines(), new.splitlines()))
        return (
            [row[2:].strip() for row in rows if row.startswith("- ")],
            [row[2:].strip() for row in rows if row.startswith("+ ")],
        )

    return make


LR = edits.ReplaceArgument(keyword="lr", value=0.003, position=1)
HEAD = "import torch\nimport torch.nn as nn\nimport torch.nn.functional as F\n"


@pytest.mark.parametrize(
    ("text", "old", "new"),
    [
        ("opt = Adam(model.parameters(), lr=0.5)", "lr=0.5", "lr=0.003"),
        ("opt = Adam(model.parameters(), 0.5)  # fast", "0.5", "0.003"),
        ("LR = 5e-1  # rate\nopt = Adam(model.parameters(), lr=LR)", "5e-1", "0.003"),
        ("opt = Adam(\n    model.parameters(),\n    lr=0.5,  # fast\n)", "lr=0.5", "lr=0.003"),
        ("opt = Adam(model.parameters())", "parameters()", "parameters(), lr=0.003"),
        ("p.add_argument('--lr', type=float, default=0.5)\nargs = p.parse_args()\nopt = Adam(model.parameters(), lr=args.lr)", "0.5", "0.003"),
        ("cfg = {'lr': 0.5, 'n': 3}\nopt = Adam(model.parameters(), lr=cfg['lr'])", "0.5", "0.003"),
        ("cfg = dict(lr=0.5)\nopt = Adam(model.parameters(), lr=cfg['lr'])", "0.5", "0.003"),
        ("@dataclass\nclass C:\n    lr: float = 0.5\ncfg = C()\nopt = Adam(model.parameters(), lr=cfg.lr)", "0.5", "0.003"),
        ("def main(lr=0.5):\n    opt = Adam(model.parameters(), lr=lr)\nmain()", "0.5", "0.003"),
        ("def main(lr=0.1):\n    opt = Adam(model.parameters(), lr=lr)\nmain(lr=0.5)", "lr=0.5", "lr=0.003"),
        ("class T:\n    def __init__(self, lr=0.5):\n        self.lr = lr\n    def go(self):\n        return Adam(self.parameters(), lr=self.lr)", "0.5", "0.003"),
        ("a, LR = 3, 0.5\nopt = Adam(model.parameters(), lr=float(LR))", "0.5", "0.003"),
        ("opt = Adam(model.parameters(), lr=0.5 * k)", "lr=0.5 * k", "lr=0.003"),
    ],
)  # fmt: skip
def test_a_learning_rate_is_changed_where_it_stands(edited, text, old, new):
    gone, come = edited(LR, text, "Adam(")
    assert len(gone) == len(come) == 1
    assert gone[0].replace(old, new) == come[0]


def test_a_constant_of_another_module_is_changed_there(tmp_path):
    (tmp_path / "settings.py").write_text("RATE = 0.5\n")
    (tmp_path / "train.py").write_text("from settings import RATE\nopt = Adam(model.parameters(), lr=RATE)\n")
    assert perform(LR, Project(tmp_path), "train.py", 2) == {tmp_path / "settings.py": b"RATE = 0.003\n"}


@pytest.mark.parametrize(
    ("text", "before"),
    [
        ("for x, y in d:\n    loss = f(x)\n    # back\n    loss.backward()\n    opt.step()", "    # back\n    loss.backward()"),
        ("for x, y in d:\n    a.backward()\n    b.backward()  # here\n    opt.step()", "    a.backward()"),
        ("for x, y in d:\n\tloss.backward()\n\topt.step()", "\tloss.backward()"),
        ("for x, y in d:\n    scaler.scale(loss).backward()\n    scaler.step(opt)\n    scaler.update()", "    scaler.scale"),
    ],
)  # fmt: skip
def test_gradients_are_cleared_before_the_first_backward_of_a_step(tmp_path, text, before):
    (tmp_path / "t.py").write_text(text + "\n")
    mark = "here" if "here" in text else "backward"
    line = next(i for i, row in enumerate(text.splitlines(), 1) if mark in row)
    new = perform(edits.ClearGradients(), Project(tmp_path), "t.py", line)[tmp_path / "t.py"].decode()
    row = next(row for row in new.splitlines() if "zero_grad" in row)
    indent = before[: len(before) - len(before.lstrip())]
    assert row == f"{indent}opt.zero_grad()"
    assert new.replace(row + "\n", "") == text + "\n"
    first = before.splitlines()[-1]
    assert new.index(row) < new.index(first)


def test_of_an_accumulation_they_are_cleared_after_the_step(edited):
    text = """
    for i, x in enumerate(d):
        loss.backward()
        if (i + 1) % 4 == 0:
            opt.step()
            sched.step()
    """
    assert edited(edits.ClearGradients(), text, "backward") == ([], ["opt.zero_grad()"])
    gone, come = edited(edits.DivideLoss(), text, "backward")
    assert (gone, come) == (["loss.backward()"], ["(loss / 4).backward()"])


def test_of_two_optimizers_it_is_the_one_whose_step_follows(edited):
    text = "d_loss.backward()\nd_opt.step()\ng_loss.backward()\ng_opt.step()\n"
    assert edited(edits.ClearGradients(), text, "g_loss") == ([], ["g_opt.zero_grad()"])


def test_a_step_is_put_behind_backward(edited):
    text = """
    opt = torch.optim.SGD(net.parameters(), lr=0.1)
    sched = StepLR(opt, 3)
    for x in d:
        opt.zero_grad()
        loss = f(x)
        loss.backward()
        sched.step()
    """
    assert edited(edits.CallStep(), text, "backward") == ([], ["opt.step()"])
    assert edited(edits.CallStep(), "for x in d: loss(x).backward()\nopt = SGD(m.parameters())", "backward")[1] == [
        "for x in d: loss(x).backward(); opt.step()"
    ]


def test_backward_is_put_before_the_step(edited):
    text = "for x in d:\n    out, loss = f(x)\n    optimizer.step()\n"
    assert edited(edits.CallBackward(), text, "step") == ([], ["loss.backward()"])


@pytest.mark.parametrize(
    ("line", "new"),
    [
        ("return torch.softmax(self.fc(x), dim=1)", "return self.fc(x)"),
        ("return F.softmax(x, -1)", "return x"),
        ("return self.fc(x).softmax(dim=1)", "return self.fc(x)"),
        ("return nn.Softmax(dim=1)(x)", "return x"),
        ("loss = ce(F.softmax(out + b, 1), y)", "loss = ce(out + b, y)"),
        ("z = F.softmax(a + b, 1) * 2", "z = (a + b) * 2"),
        ("x = F.softmax(x, dim=1)", None),
    ],
)
def test_a_softmax_is_left_out(edited, line, new):
    edit = edits.RemoveCall(function="softmax")
    gone, come = edited(edit, f"{HEAD}def f(x):\n    {line}\n    return x\n", line)
    assert gone == [line]
    assert come == ([new] if new else [])


def test_a_softmax_module_goes_from_its_sequential(edited):
    edit = edits.RemoveCall(function="softmax", module="net.2")
    text = (
        HEAD + "net = nn.Sequential(\n    nn.Linear(3, 4),\n    nn.ReLU(),\n    nn.Softmax(dim=1),\n)\nout = net(x)\n"
    )
    gone, come = edited(edit, text, "out = net")
    assert (gone, come) == (["nn.Softmax(dim=1),"], [])
    gone, come = edited(edit, HEAD + "net = nn.Sequential(nn.Linear(3, 4), nn.Softmax(1))\nout = net(x)\n", "out =")
    assert come == ["net = nn.Sequential(nn.Linear(3, 4))"]


def test_a_softmax_attribute_is_no_longer_called(edited):
    text = HEAD + (
        "class N(nn.Module):\n    def __init__(self):\n        self.act = nn.Softmax(dim=1)\n"
        "    def forward(self, x):\n        return self.act(self.fc(x))\n"
    )
    gone, come = edited(edits.RemoveCall(function="softmax", module="act"), text, "return self.act")
    assert (gone, come) == (["return self.act(self.fc(x))"], ["return self.fc(x)"])


@pytest.mark.parametrize(
    ("line", "new"),
    [
        ("loss = F.mse_loss(model(x), y)", "loss = F.mse_loss(model(x).squeeze(1), y)"),
        ("loss = criterion(input=p, target=y)", "loss = criterion(input=p.squeeze(1), target=y)"),
        ("loss = ((p - y) ** 2).mean()", "loss = ((p.squeeze(1) - y) ** 2).mean()"),
        ("loss = nn.MSELoss()(w @ x, y)", "loss = nn.MSELoss()((w @ x).squeeze(1), y)"),
    ],
)
def test_a_prediction_is_squeezed(edited, line, new):
    assert edited(edits.SqueezeOperand(operand=0), HEAD + line, line) == ([line], [new])


def test_layers_are_held_in_containers(edited):
    kinds = {
        "self.a = [nn.Linear(3, 3) for _ in range(4)]": "self.a = nn.ModuleList([nn.Linear(3, 3) for _ in range(4)])",
        "self.a = {'x': nn.Linear(3, 3)}": "self.a = nn.ModuleDict({'x': nn.Linear(3, 3)})",
        "self.a = torch.randn(3, requires_grad=True)": "self.a = nn.Parameter(torch.randn(3))",
    }
    for line, new in kinds.items():
        text = f"{HEAD}class N(nn.Module):\n    def __init__(self):\n        {line}\n"
        assert edited(edits.RegisterModules(), text, line) == ([line], [new])
    text = f"{HEAD}class N(nn.Module):\n    def __init__(self):\n        self.a = []\n        for i in d:\n            self.a.append(nn.Linear(i, i))\n"
    assert edited(edits.RegisterModules(), text, "append") == (["self.a = []"], ["self.a = nn.ModuleList()"])


def test_activations_are_inserted(edited):
    edit = edits.ActivateBetween(modules=("0", "1"))
    text = (
        HEAD + "net = nn.Sequential(\n    nn.Linear(3, 4),\n    nn.Linear(4, 4),  # hidden\n    nn.Linear(4, 1),\n)\n"
    )
    assert edited(edit, text, "hidden")[0] == []
    text = HEAD + "net = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 1))\n"
    assert edited(edit, text, "net")[1] == [
        "net = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 1))"
    ]
    text = HEAD + "class N(nn.Module):\n    def forward(self, x):\n        return self.b(self.drop(self.a(x)))\n"
    assert edited(edits.ActivateBetween(modules=("a",)), text, "return")[1] == [
        "return self.b(self.drop(F.relu(self.a(x))))"
    ]


@pytest.mark.parametrize(
    ("line", "new"),
    [
        ("nn.init.zeros_(m.weight)", "nn.init.kaiming_uniform_(m.weight)"),
        ("torch.nn.init.constant_(m.weight, 0.1)", "nn.init.kaiming_uniform_(m.weight)"),
        ("m.weight.data.fill_(0.01)", "nn.init.kaiming_uniform_(m.weight)"),
        ("m.weight.data.normal_(0, 1)", "nn.init.kaiming_uniform_(m.weight)"),
        ("nn.init.normal_(m.weight, 0.0, 1.0)  # wide", "nn.init.kaiming_uniform_(m.weight)  # wide"),
        ("self.w = nn.Parameter(torch.zeros(a, b))", "self.w = nn.Parameter(torch.randn(a, b) * 0.02)"),
    ],
)
def test_initialisation_becomes_random(edited, line, new):
    assert edited(edits.InitialiseRandomly(), HEAD + line, line) == ([line], [new])


def test_the_optimizer_gets_all_parameters(edited):
    kinds = {
        "opt = Adam(model.head.parameters(), lr=1)": "opt = Adam(model.parameters(), lr=1)",
        "opt = Adam([*model.a.parameters(), *model.b.parameters()])": "opt = Adam(model.parameters())",
        "opt = Adam(list(net.a.parameters()) + list(net.b.parameters()))": "opt = Adam(net.parameters())",
        "opt = Adam([p for n, p in net.named_parameters() if 'a' in n])": "opt = Adam(net.parameters())",
    }
    for line, new in kinds.items():
        assert edited(edits.OptimizeModel(), line, "opt") == ([line], [new])


EVALUATION = """
import torch
def accuracy(model, loader):
    hits = 0
    with torch.no_grad():
        for x, y in loader:
            hits += (model(x).argmax(1) == y).sum().item()
    return hits
for epoch in range(3):
    for x, y in d:
        model(x).backward()
    accuracy(model, d)
"""


def test_evaluation_gets_its_mode_and_gives_it_back(edited):
    edit = edits.EnterEvalMode()
    assert edited(edit, EVALUATION, "argmax") == ([], ["model.eval()", "model.train()"])
    once = EVALUATION.replace("for epoch in range(3):", "for epoch in range(3):\n    model.train()")
    assert edited(edit, once, "argmax") == ([], ["model.eval()"])
    text = "import torch\ndef score(model, x):\n    return model(x).argmax(1)\nfor x in d: model(x).backward()\n"
    gone, come = edited(edit, text, "argmax")
    assert gone == ["return model(x).argmax(1)"]
    assert come == ["@torch.no_grad()", "model.eval()", "result = model(x).argmax(1)", "model.train()", "return result"]


def test_what_ends_the_graph_goes(edited):
    edit = edits.StayInGraph()
    assert edited(edit, "loss = f(out.detach(), y)", "loss")[1] == ["loss = f(out, y)"]
    assert edited(edit, "loss = f(model(x).data, y)", "loss")[1] == ["loss = f(model(x), y)"]
    assert edited(edit, "loss = torch.tensor([g(x).item()], requires_grad=True)", "loss")[1] == ["loss = g(x)"]


def test_line_ends_encodings_and_marks_are_kept(tmp_path):
    texts = [
        b"# coding: latin-1\r\nname = '\xe9'\r\nfor x in d:\r\n\tloss.backward()\r\n\topt.step()\r\n",
        b"\xef\xbb\xbf# x\r\n# x\r\nfor x in d:\r\n\tloss.backward()\r\n\topt.step()",
    ]
    for text in texts:
        (tmp_path / "t.py").write_bytes(text)
        new = perform(edits.ClearGradients(), Project(tmp_path), "t.py", 4)[tmp_path / "t.py"]
        assert new == text.replace(b"\tloss", b"\topt.zero_grad()\r\n\tloss")


@pytest.mark.parametrize("text", ["def f(:\n", "\x00", "print 'x'\n", ""])
def test_what_cannot_be_parsed_or_found_is_no_edit(tmp_path, text):
    (tmp_path / "t.py").write_text(text)
    for edit in (edits.ClearGradients(), LR, edits.EnterEvalMode(), edits.StayInGraph()):
        with pytest.raises(CannotEdit):
            perform(edit, Project(tmp_path), "t.py", 1)


EVERY = [
    LR, edits.ClearGradients(), edits.CallStep(), edits.CallBackward(), edits.ClipGradients(), edits.DivideLoss(),
    edits.OptimizeModel(), edits.RemoveCall(function="softmax"), edits.RemoveCall(function="sigmoid"),
    edits.RenameCall(function="relu", replacement="gelu"), edits.SqueezeOperand(), edits.StayInGraph(),
    edits.EnterEvalMode(), edits.EnterEvalMode(mode=False), edits.EnterTrainMode(), edits.RegisterModules(),
    edits.InitialiseRandomly(), edits.ActivateBetween(modules=("fc1",)), edits.ActivateBetween(modules=("0",)),
    edits.ReplaceArgument(call=("DataLoader",), keyword="shuffle", value=True, position=2),
]  # fmt: skip


@pytest.mark.parametrize("path", sorted(FIXTURES.glob("*/*.py")), ids=lambda path: path.stem)
def test_an_edit_at_any_line_of_a_program_compiles_and_changes_few_lines(path):
    """Or there is none: never another error."""
    project = Project(path.parent)
    text = path.read_bytes()
    count = text.count(b"\n") + 1
    for line in range(count % 5 + 1, count, max(1, count // 12)):
        for edit in EVERY:
            try:
                results = perform(edit, project, path.name, line)
            except CannotEdit:
                continue
            for file, new in results.items():
                compile(new, str(file), "exec")
                old = project.open(str(file)).data.decode().splitlines()
                rows = [row for row in difflib.ndiff(old, new.decode().splitlines()) if row[:2] in ("- ", "+ ")]
                assert 1 <= len(rows) <= (40 if isinstance(edit, edits.RenameCall | edits.EnterEvalMode) else 6)
