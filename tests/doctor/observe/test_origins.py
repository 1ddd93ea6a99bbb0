"""Lines that make data or step an optimizer, read from a program's text."""

import ast
import textwrap

from doctor.evidence.base import Source
from doctor.evidence.data_lines import DataLine, DataLines
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


def refitted(text):
    lines = [
        DataLine(each["kind"], each["call"], Source(*each["line"]), tuple(each["names"]), tuple(each["arguments"]))
        for each in origins._of(ast.parse(textwrap.dedent(text)), "train.py")
    ]
    found = DataLines(tuple(lines)).refitted()
    return found and found.line


def test_a_scaler_that_is_fitted_on_held_out_data_as_well_is_found():
    assert refitted("x_train = scaler.fit_transform(x_train)\nx_test = scaler.fit_transform(x_test)") == 2
    assert refitted("train = Rows(scaler.fit(t[:9])(t[:9]))\ntest = Rows(scaler.fit(t[9:])(t[9:]))") == 2


def test_models_and_scalers_that_are_fitted_once_are_not():
    assert refitted("x_train = scaler.fit_transform(x_train)\nx_test = scaler.transform(x_test)") is None
    assert refitted("x_train, x_test = scaler.fit_transform(x_train), scaler.transform(x_test)") is None
    assert refitted("scaler.fit(x_train)\nmodel.fit(x_train, y_train)\nprobe.fit(x_test, y_test)") is None


def read(text):
    lines = [
        DataLine(
            e["kind"],
            e["call"],
            Source(*e["line"]),
            tuple(e["names"]),
            tuple(e["arguments"]),
            (),
            e.get("passed", False),
        )
        for e in origins._of(ast.parse(textwrap.dedent(text)), "train.py")
    ]
    return DataLines(tuple(lines))


def test_what_a_data_set_is_given_is_looked_for_where_it_is_taken_from_the_table():
    lines = read("""
        def prepare(df):
            nums = df[numeric]
            y = df["rent"]
            return nums.to_numpy(), y.to_numpy()

        class Listings(Dataset):
            def __init__(self, nums, y):
                self.nums = torch.as_tensor(nums)
                self.y = torch.as_tensor(y)
    """)
    assert (lines.inputs().line, lines.targets().line) == (3, 4)


def test_tensors_made_where_their_values_are_at_hand_stay_the_place():
    lines = read("""
        frame = load()
        y = frame["rent"]
        targets = torch.tensor(y.values)
    """)
    assert lines.targets().line == 4


def lines_of(kind, text):
    found = origins._of(ast.parse(textwrap.dedent(text)), "train.py")
    return sorted(each["line"][1] for each in found if each["kind"] == kind)


def test_windows_are_found_where_they_are_cut():
    text = """
        def __getitem__(self, i):
            x = self.series[i : i + self.length]
            first = self.series[0 : self.length + 1]
            part = self.series[: i + 4]
            return x, first, part
        all = series.unfold(0, 12, 1)
    """
    assert lines_of("window", text) == [3, 7]


def test_labels_are_found_where_they_get_their_values():
    text = """
        def collate(rows):
            batch = {
                "input_ids": ids,
                "labels": ids.clone(),
            }
            return batch
        batch["labels"] = ids
        labels = ids.clone()
        ignored = labels
    """
    assert lines_of("labels", text) == [5, 8, 9]


def targets(text):
    lines = [
        DataLine(each["kind"], each["call"], Source(*each["line"]), tuple(each["names"]), tuple(each["arguments"]),
                 each.get("passed", False), tuple(each.get("computed", ())))
        for each in origins._of(ast.parse(textwrap.dedent(text)), "train.py")
    ]  # fmt: skip
    found = DataLines(tuple(lines)).targets()
    return found.line if found else None


def test_targets_are_found_by_the_name_that_the_loss_takes():
    text = """
        def tensors(frame):
            numbers = torch.tensor(frame.to_numpy())
            delay = torch.tensor(frame.delay.to_numpy())
            return numbers, delay
        trainer = make()
        for numbers, delay in loader:
            loss = F.smooth_l1_loss(model(numbers), delay)
    """
    assert targets(text) == 4


def test_a_trainer_is_no_target():
    assert targets("trainer = Trainer(model)\ntotal = sum(x)\n") is None
    assert targets("y_train = torch.tensor(labels)\n") == 1


def test_scaling_in_one_mode_only_is_told_from_scaling_always():
    text = """
        def __getitem__(self, i):
            image = self.images[i]
            if self.train:
                image = (image - 4.9) / 6.0
            return image, self.labels[i]
        series = (series - mean) / std
    """
    assert lines_of("guarded", text) == [5]
    assert lines_of("scaled", text) == [7]
