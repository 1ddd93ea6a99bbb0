"""Sums of an evaluation that are never set back, in running functions."""

import sys
import textwrap

import pytest

from doctor.observe import carried


@pytest.fixture
def found_in(tmp_path):
    """What is found in a program while it calls `model`: names, kinds and the lines that are marked `# here`."""

    def run(text, **names):
        path = tmp_path / "program.py"
        path.write_text(textwrap.dedent(text))
        found = []

        def model(*_):
            found.extend(carried.find(sys._getframe(1)))
            return 1.0

        exec(compile(path.read_text(), str(path), "exec"), {"model": model, **names})
        marked = [n for n, line in enumerate(path.read_text().splitlines(), 1) if line.endswith("# here")]
        return {(each["name"], each["kind"]) for each in found}, {each["line"] for each in found} == set(marked)

    return run


class TestLoops:
    def test_a_sum_begun_before_all_epochs_is_carried(self, found_in):
        names, at_marked = found_in("""
            correct = total = 0
            for epoch in range(2):
                for batch in range(3):
                    correct += model(batch)
                    total += 1
                accuracy = correct / total  # here
        """)
        assert names == {("correct", "sum")}
        assert at_marked

    def test_a_sum_begun_in_every_epoch_is_not(self, found_in):
        names, _ = found_in("""
            for epoch in range(2):
                correct, total = 0, 0
                for batch in range(3):
                    correct += model(batch)
                    total += 1
                accuracy = correct / total
        """)
        assert not names

    def test_a_list_of_predictions_is_carried_and_a_history_of_epochs_is_not(self, found_in):
        names, at_marked = found_in("""
            predictions, history = [], []
            for epoch in range(2):
                for batch in range(3):
                    predictions.append(model(batch))
                score = sum(predictions)  # here
                history.append(score)
                best = sum(history)
        """)
        assert names == {("predictions", "list")}
        assert at_marked

    def test_one_evaluation_after_training_is_not(self, found_in):
        names, _ = found_in("""
            correct = 0
            for batch in range(3):
                correct += model(batch)
            accuracy = correct / 3
        """)
        assert not names


class TestClasses:
    PROGRAM = """
        class Task:
            def __init__(self):
                self.outputs = []

            def validation_step(self, batch):
                self.outputs.append(model(batch))

            def on_validation_epoch_end(self):
                score = sum(self.outputs)  # here
                {clear}

        task = Task()
        for epoch in range(2):
            task.validation_step(epoch)
            task.on_validation_epoch_end()
    """

    def test_outputs_that_are_never_cleared_are_carried(self, found_in):
        names, at_marked = found_in(self.PROGRAM.format(clear="pass"))
        assert names == {("self.outputs", "list")}
        assert at_marked

    def test_outputs_that_are_cleared_are_not(self, found_in):
        assert not found_in(self.PROGRAM.format(clear="self.outputs.clear()"))[0]

    def test_a_history_kept_by_an_evaluation_of_its_own_is_not(self, found_in):
        names, _ = found_in("""
            class Task:
                def __init__(self):
                    self.scores = []

                def evaluate(self, batch):
                    self.scores.append(model(batch))

                def report(self):
                    return sum(self.scores)

            Task().evaluate(1)
        """)
        assert not names

    METRIC = """
        class Task:
            def __init__(self):
                self.f1 = Metric()

            def log(self, name, value):
                pass

            def validation_step(self, batch):
                self.f1.update(model(batch))

            def on_validation_epoch_end(self):
                {end}

        Task().validation_step(1)
    """

    @pytest.fixture
    def metric(self):
        return type("F1", (), {"__module__": "torchmetrics.classification", "update": lambda self, value: None})

    def test_a_metric_that_is_computed_and_never_reset_is_carried(self, found_in, metric):
        names, at_marked = found_in(self.METRIC.format(end="self.log('f1', self.f1.compute())  # here"), Metric=metric)
        assert names == {("self.f1", "metric")}
        assert at_marked

    @pytest.mark.parametrize("end", ["self.f1.compute(); self.f1.reset()", "self.log('f1', self.f1)"])
    def test_a_metric_that_is_reset_by_hand_or_by_the_logger_is_not(self, found_in, metric, end):
        assert not found_in(self.METRIC.format(end=end), Metric=metric)[0]
