"""Lines that make data or step an optimizer, read from a program's text."""

import ast
import textwrap

from doctor.observe import origins


def steps(text):
    return [
        each["line"][1] for each in origins._of(ast.parse(textwrap.dedent(text)), "train.py") if each["kind"] == "step"
    ]


def test_a_step_is_placed_at_the_condition_that_guards_it():
    text = """
        def train(optimizer, scheduler, batches):
            for number, batch in enumerate(batches):
                if number % 64 == 0:
                    optimizer.step()
                    scheduler.step()
    """
    assert steps(text) == [4]


def test_a_step_within_a_loop_of_a_script_that_asks_for_its_main_is_placed_at_its_own_line():
    text = """
        if __name__ == "__main__":
            for batch in range(3):
                opt.step()
    """
    assert steps(text) == [4]
