"""Fault operators: every one is used, changes what it says, and names lines that exist."""

import ast

import pytest

from benchmarks.operators import mutants, operators
from benchmarks.programs import healthy, sample, specimens
from benchmarks.source import Source

PROGRAM = """\
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

x_train, y_train = torch.rand(64, 4), torch.randint(3, (64,))
x_test, y_test = torch.rand(16, 4), torch.randint(3, (16,))
loader = DataLoader(TensorDataset(x_train, y_train), batch_size=8, shuffle=True)
test_loader = DataLoader(TensorDataset(x_test, y_test), batch_size=8)
model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Dropout(0.1), nn.Linear(8, 3))
optimizer = torch.optim.SGD(
    model.parameters(),
    lr=0.1,
)
for epoch in range(3):
    model.train()
    for x, y in loader:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        accuracy = sum((model(x).argmax(1) == y).sum() for x, y in test_loader) / len(y_test)
"""


@pytest.fixture(scope="module")
def made():
    return {mutant.operator: mutant for mutant in mutants(PROGRAM)}


def line(mutant, number):
    return mutant.source.splitlines()[number - 1].strip()


def test_every_operator_fits_some_healthy_program():
    assert {specimen.mutant.operator for specimen in specimens()} == set(operators())


def test_every_mutant_parses_keeps_its_lines_and_differs():
    for program in healthy():
        text = program.path.read_text()
        for mutant in mutants(text):
            tree = ast.parse(mutant.source)
            assert mutant.source.count("\n") == text.count("\n")
            assert ast.dump(tree) != ast.dump(ast.parse(text)), (program.name, mutant.operator)
            assert mutant.lines, (program.name, mutant.operator)
            assert set(mutant.lines) <= set(range(1, text.count("\n") + 1)), (program.name, mutant.operator)


@pytest.mark.parametrize(
    ("operator", "number", "text"),
    [
        ("drop-zero-grad", 17, "None"),
        ("negated", 18, "loss = -(nn.functional.cross_entropy(model(x), y))"),
        ("softmax-before-cross-entropy", 18, "nn.functional.cross_entropy(torch.softmax(model(x), dim=-1), y)"),
        ("train-dropped", 15, "None"),
        ("rate-too-high", 12, "lr=100 * (0.1),"),
        ("momentum-too-long", 12, "lr=0.1, momentum=0.999"),
        ("optimize-head-only", 11, "list(model.parameters())[-2:],"),
        ("model-replaced-later", 13, '); model = __import__("copy").deepcopy(model)'),
        ("step-once-an-epoch", 21, "optimizer.step(); model.eval()"),
        ("labels-shuffled", 7, "(y_train)[torch.randperm(len((y_train))"),
        ("dropout-almost-all", 9, "nn.Dropout(0.95)"),
    ],
)
def test_operator_writes_the_fault_where_it_belongs(made, operator, number, text):
    assert text in line(made[operator], number)
    assert number in made[operator].lines or operator in ("rate-too-high", "step-once-an-epoch")


def test_operators_that_make_no_sense_here_leave_the_program_alone(made):
    assert not {"causal-mask-removed", "betas-swapped", "squeeze-dropped", "term-left-out", "plain-list"} & set(made)


def test_sample_is_part_of_every_larger_sample_and_takes_operators_in_turn():
    found = specimens()
    small, large = sample(found, 40), sample(found, 120)
    assert small == large[:40]
    assert len({specimen.mutant.operator for specimen in small}) == 40


def test_replacing_several_lines_keeps_the_numbers_of_those_behind():
    source = Source("value = f(\n    1,\n    2,\n)\nend = 1\n")
    call = source.calls("f")[0]
    assert source.edited([source.replace(call, "None")]) == "value = (None\n\n\n)\nend = 1\n"


def test_edits_that_overlap_are_refused():
    source = Source("f(g(1))\n")
    edits = [source.replace(source.calls("f")[0], "1"), source.replace(source.calls("g")[0], "2")]
    with pytest.raises(ValueError, match="overlap"):
        source.edited(edits)
