"""What is an everyday sight in tables and no fault: counts, rare flags, prices that follow sizes; and the faults beside."""

import numpy as np
import pandas as pd
import torch

from doctor import diagnose_data
from doctor.findings import Severity
from doctor.samples.packed_names import holds_samples_by_name
from doctor.subjects.dataset import is_data


def loud(data, target, *rules):
    report = diagnose_data(data, target=target, select=rules, confirm=False)
    return [f for f in report.findings if f.level is not Severity.INFO]


def shop(rows=2000, seed=0):
    g = np.random.default_rng(seed)
    price, week = g.gamma(4, 3, rows).round(2), np.sort(g.integers(0, 40, rows))
    sold = g.poisson(60 / price)
    return pd.DataFrame({"price": price, "week": week, "holiday": (week == 7).astype(int), "sold": sold})


def test_counts_are_no_classes():
    frame = shop()
    assert not loud({"train": frame[:1600], "test": frame[1600:]}, "sold", "DAT006", "DAT007")


def test_class_numbers_are_classes_however_many():
    g = np.random.default_rng(0)
    frame = pd.DataFrame({"a": g.normal(0, 1, 3000), "kind": g.permutation(np.arange(3000) % 30)})
    data = {"train": frame[:2400][lambda f: f.kind != 12], "test": frame[2400:]}
    assert [f.rule for f in loud(data, "kind", "DAT006")] == ["DAT006"]


def test_a_single_row_of_a_rare_class_may_fall_into_either_split():
    g = np.random.default_rng(0)
    frame = pd.DataFrame({"a": g.normal(0, 1, 1000), "kind": g.choice(["x", "y"], 1000)})
    data = {"train": frame[:700], "test": frame[700:].reset_index(drop=True)}
    data["test"].loc[0, "kind"] = "rare"
    assert not loud(data, "kind", "DAT006")
    data["test"].loc[1:9, "kind"] = "rare"
    assert [f.rule for f in loud(data, "kind", "DAT006")] == ["DAT006"]


def test_a_rare_flag_may_never_be_up_in_a_short_split():
    frame = shop()
    assert not loud({"train": frame[:1600], "test": frame[1600:]}, "sold", "DAT010")


def test_a_column_that_lost_its_values_in_a_split_is_told():
    frame = shop().astype({"price": float})
    test = frame[1600:].assign(price=9.99)
    assert [f.location.column for f in loud({"train": frame[:1600], "test": test}, "sold", "DAT010")] == ["price"]


def homes(noise, rows=1500):
    g = np.random.default_rng(0)
    area = g.lognormal(4.6, 0.4, rows)
    rooms = np.round(area / 28 + g.normal(0, 1, rows))
    return pd.DataFrame({"area": area, "rooms": rooms, "price": area * 3000 + g.normal(0, noise, rows)})


def test_a_price_follows_the_area():
    assert not loud(homes(20_000), "price", "DAT011")


def test_a_tax_on_the_price_gives_it_away():
    frame = homes(60_000).assign(tax=lambda f: (f.price * 0.065).round(2))
    assert [f.location.column for f in loud(frame, "price", "DAT011")] == ["tax"]


def screening(rows=2400, shift=slice(0, 0), seed=0):
    g = np.random.default_rng(seed)
    x = g.normal(0, 1, (rows, 4))
    y = (x @ [1.2, -0.8, 0.5, 0.2] + g.logistic(0, 0.7, rows) > 0.4).astype(int)
    y[shift] = np.roll(y[shift], 1)
    return pd.DataFrame(x, columns=list("abcd")).assign(ill=y)


def test_a_stretch_of_displaced_targets_is_found_where_classes_overlap():
    (found,) = loud(screening(shift=slice(900, 1600)), "ill", "DAT012", "DAT013")
    assert found.rule == "DAT012"
    rows = {row for _, _, row in found.rows.every}
    assert len(rows & set(range(900, 1600))) > 650
    assert len(rows) < 750


def test_no_stretch_is_found_in_sorted_and_in_drifting_tables():
    frame = screening()
    assert not loud(frame.sort_values("ill", ignore_index=True), "ill", "DAT012")
    assert not loud(frame.sort_values("a", ignore_index=True), "ill", "DAT012")


def test_lines_in_another_encoding_are_listed_as_rows(tmp_path):
    lines = ["name,ill", *(f"müller{i},{i % 2}" for i in range(200))]
    raw = [line.encode("latin-1" if i in (3, 50) else "utf-8") for i, line in enumerate(lines)]
    (tmp_path / "all.csv").write_bytes(b"\n".join(raw) + b"\n")
    (found,) = loud(str(tmp_path / "all.csv"), "ill", "DAT020")
    assert [row for _, _, row in found.rows.every] == [2, 49]


def test_words_for_nothing_are_shown_as_they_stand():
    frame = screening().assign(ward=lambda f: np.where(f.index % 50 == 0, "NULL", "north"))
    frame.loc[::3, "ward"] = "south"
    frame.loc[::50, "ward"] = "NULL"
    (found,) = loud(frame, "ill", "DAT001")
    assert '"NULL"' in found.message


def test_a_pt_file_is_data_by_the_names_of_its_tensors(tmp_path):
    torch.save({"x_train": torch.rand(4, 3), "y_train": torch.zeros(4)}, tmp_path / "data.pt")
    torch.save(torch.nn.Linear(3, 2).state_dict(), tmp_path / "model.pt")
    torch.save({"model": {"x.weight": torch.rand(2)}, "label": 3, "data": "cifar"}, tmp_path / "checkpoint.pt")
    assert holds_samples_by_name(tmp_path / "data.pt")
    assert is_data(str(tmp_path / "data.pt"))
    assert not is_data(str(tmp_path / "model.pt"))
    assert not is_data(str(tmp_path / "checkpoint.pt"))


def test_classes_that_overlap_are_no_wrong_labels_of_samples():
    generator = torch.Generator().manual_seed(1)
    y = torch.arange(1800) % 3
    x = torch.randn(1800, 8, generator=generator) + y[:, None]
    assert not loud(torch.utils.data.TensorDataset(x, y), None, "DAT013")
    wrong = torch.randperm(1800, generator=generator)[:110]
    y[wrong] = (y[wrong] + 1) % 3
    assert [f.rule for f in loud(torch.utils.data.TensorDataset(x + y[:, None] * 0, y), None, "DAT013")] == ["DAT013"]


def opinions(rows=1600, wrong=0, seed=0):
    g = np.random.default_rng(seed)
    good, bad = (
        ("warm", "quick", "honest", "bright", "kind", "tasty"),
        ("cold", "slow", "rude", "dark", "stale", "loud"),
    )
    things = ("soup", "room", "staff", "bread", "garden", "music", "coffee", "view", "table", "bill")
    labels = g.integers(0, 2, rows)
    texts = [
        f"the {g.choice(things)} was {g.choice(good if label else bad)} and the {g.choice(things)} {g.choice(good if label else bad)}"
        for label in labels
    ]
    labels[:wrong] = 1 - labels[:wrong]
    return pd.DataFrame({"review": texts, "stars": g.integers(1, 6, rows), "liked": labels}).sample(
        frac=1, random_state=1
    )


def test_labels_of_texts_are_judged_by_their_words():
    rules = ("DAT012", "DAT013")
    assert not loud(opinions(), "liked", *rules)
    assert [f.rule for f in loud(opinions(wrong=110), "liked", *rules)] == ["DAT013"]
    shuffled = opinions().assign(liked=lambda f: np.random.default_rng(0).permutation(f.liked))
    assert [f.rule for f in loud({"train": shuffled, "test": opinions(400, seed=2)}, "liked", *rules)] == ["DAT012"]


def test_ids_that_tell_nothing_of_a_rating_are_no_warning():
    g = np.random.default_rng(0)
    frame = pd.DataFrame({"user_id": g.integers(0, 300, 4000), "item_id": g.integers(0, 200, 4000)})
    assert not loud(frame.assign(rating=g.integers(1, 6, 4000)), "rating", "DAT012")


def test_the_step_of_a_series_is_no_leak_and_a_number_in_order_of_the_target_is_one():
    g = np.random.default_rng(0)
    level = np.cumsum(g.normal(0, 1, 2000))
    series = pd.DataFrame({"step": np.arange(2000), "level": level, "high": (level > np.median(level)).astype(int)})
    assert not loud(series, "high", "DAT025")
    cases = screening().sort_values("ill", ignore_index=True).assign(case_id=lambda f: f.index)
    assert [f.location.column for f in loud(cases.sample(frac=1, random_state=0), "ill", "DAT025")] == ["case_id"]


def test_a_flag_that_is_right_nine_times_in_ten_makes_no_wrong_labels():
    g = np.random.default_rng(0)
    ill = g.integers(0, 2, 2000)
    frame = pd.DataFrame(g.normal(0, 1, (2000, 3)), columns=list("abc"))
    assert not loud(frame.assign(swab=np.where(g.random(2000) < 0.9, ill, 1 - ill), ill=ill), "ill", "DAT013")
