"""Held-out data that is made and never read."""

import sys

from doctor.observe import unread


def split():
    return [1, 2, 3], [4, 5]


def forgotten():
    x_train, x_test = split()
    x_train, x_test = (sorted(part) for part in (x_train, x_test))
    print(len(x_test), sum(x_train))
    return unread.held_out(sys._getframe())


def evaluated():
    x_train, x_test = split()
    print(sum(x_train), sum(x_test))
    return unread.held_out(sys._getframe())


def kept_for_later():
    x_train, x_test = split()  # noqa: RUF059
    train_acc = sum(x_train)
    print(train_acc)
    return unread.held_out(sys._getframe())


def scores_and_loops():
    x_train, _ = split()
    test_acc = val_loss = sum(x_train)  # noqa: F841
    for x_val in [x_train]:  # noqa: B007
        pass
    return unread.held_out(sys._getframe())


def test_scores_and_what_loops_take_are_no_data():
    assert scores_and_loops() == []


def test_data_of_which_only_the_length_is_asked_was_forgotten():
    assert forgotten() == ["x_test"]


def test_data_that_is_evaluated_was_not():
    assert evaluated() == []


def test_a_training_accuracy_told_as_such_is_meant():
    assert kept_for_later() == []
