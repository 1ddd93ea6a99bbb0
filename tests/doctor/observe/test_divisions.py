"""What is read from the source of a running evaluation."""

import sys

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from doctor.observe import divisions

X, Y = torch.zeros(6, 4), torch.zeros(6, dtype=torch.long)
LOADER = DataLoader(TensorDataset(X, Y), 3)
model = nn.Linear(4, 5)


def collapsed(frame):
    first = frame.f_code.co_firstlineno
    return [found for line in range(first, first + 9) for found in divisions.collapsed(frame, line)]


def argmax_of_everything():
    correct = 0
    for x, y in LOADER:
        logits = model(x)
        correct += (logits.argmax() == y).sum().item()
    return collapsed(sys._getframe())


def argmax_by_a_name():
    predicted = torch.argmax(model(X).softmax(1)).item()
    print((predicted == Y).float().mean())
    return collapsed(sys._getframe())


def argmax_of_classes():
    logits = model(X)
    print((logits.argmax(1) == Y).sum(), (torch.argmax(logits, dim=-1) == Y).float().mean())
    return collapsed(sys._getframe())


def argmax_of_rows():
    logits, correct = model(X), 0
    for row, label in zip(logits, Y, strict=True):
        correct += (row.argmax() == label).sum().item()
    correct += sum((logits[i].argmax() == Y[i]).sum().item() for i in range(6))
    return collapsed(sys._getframe())


def argmax_of_single_samples():
    logits = model(X)
    print(logits.mean())
    hits, single = 0, sys._getframe().f_lineno + 2
    for x, y in zip(X, Y, strict=True):
        logits = model(x[None])
        hits += (logits.argmax() == y).sum().item()
    return [found for line in range(single - 9, single) for found in divisions.collapsed(sys._getframe(), line)]


def counted_by_a_name():
    correct = 0
    for x, y in LOADER:
        correct += (model(x).argmax(1) == y).sum().item()
    n = len(LOADER)
    print(correct / n)
    return divisions.find(sys._getframe())


def counted_by_samples():
    correct = 0
    for x, y in LOADER:
        correct += (model(x).argmax(1) == y).sum().item()
    n = len(LOADER.dataset)
    print(correct / n)
    return divisions.find(sys._getframe())


def test_one_number_for_all_samples_is_seen():
    (found,) = argmax_of_everything()
    assert found["text"] == "logits.argmax()"
    assert len(argmax_by_a_name()) == 1


def test_an_axis_and_single_rows_are_silent():
    assert not argmax_of_classes()
    assert not argmax_of_rows()


def test_a_batch_on_another_line_is_not_the_output_that_is_compared():
    assert not argmax_of_single_samples()


def test_a_count_by_its_name_lies_where_it_is_taken():
    (found,) = counted_by_a_name()
    line = counted_by_a_name.__code__.co_firstlineno + 4
    assert (found["counts"], found["denominator"], found["line"]) == ("batches", "len(LOADER)", line)
    (right,) = counted_by_samples()
    assert right["counts"] == "samples"
