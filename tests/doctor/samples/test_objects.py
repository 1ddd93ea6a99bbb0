"""Live data sets, arrays, and what is said of bad input."""

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

from doctor import diagnose_data
from doctor.cli import main
from doctor.errors import DoctorError

G = torch.Generator().manual_seed(0)
X = torch.randn(300, 6, generator=G)
Y = (X[:, 0] + X[:, 1] > 0).long()


class Pairs(Dataset):
    def __init__(self, fails=()):
        self.fails = fails

    def __len__(self):
        return len(X)

    def __getitem__(self, index):
        if index in self.fails:
            raise OSError(f"record {index} is gone")
        return X[index], Y[index]


class Stream(IterableDataset):
    def __iter__(self):
        return iter([(x, int(y)) for x, y in zip(X, Y, strict=True)])


def loud(report):
    return [(finding.rule, finding.faults) for finding in report.findings if finding.level != "info"]


@pytest.mark.parametrize(
    "data",
    [
        Pairs(),
        Stream(),
        TensorDataset(X, Y),
        list(zip(X.numpy(), Y.tolist(), strict=True)),
        DataLoader(Pairs(), 16, shuffle=True),
        DataLoader(Pairs(), 16, num_workers=2),
    ],
)
def test_healthy_data_sets_of_every_kind_are_silent(data):
    report = diagnose_data(data)
    assert loud(report) == []
    assert report.subject.rows == 300


def test_samples_that_raise_are_listed():
    (finding,) = diagnose_data(Pairs(fails={3, 50}), select=("DAT017",)).findings
    assert [place.row for place in finding.rows.first] == [3, 50]


def test_workers_that_each_give_everything():
    assert loud(diagnose_data(DataLoader(Stream(), 16, num_workers=2))) == [
        ("DAT018", ("worker-seed-duplication", "duplicate-samples"))
    ]


def test_leakage_between_live_splits():
    report = diagnose_data(None, train=TensorDataset(X[:200], Y[:200]), test=TensorDataset(X[190:], Y[190:]))
    (finding,) = [f for f in report.findings if f.rule == "DAT003"]
    assert (finding.rows.count, finding.rows.of) == (10, 110)
    assert finding.effect.control >= 0


def test_the_random_state_is_left_as_it_was():
    class Noisy(Dataset):
        def __len__(self):
            return 50

        def __getitem__(self, index):
            return torch.randn(4) + float(np.random.rand()), index % 2

    torch.manual_seed(4)
    np.random.seed(4)
    expected = torch.randn(1), np.random.rand()
    torch.manual_seed(4)
    np.random.seed(4)
    diagnose_data(Noisy(), select=("DAT001",))
    assert (torch.randn(1), np.random.rand()) == expected


def test_samples_of_several_shapes_are_listed():
    data = [(torch.randn(3, 8, 8), 0) for _ in range(40)] + [(torch.randn(1, 8, 8), 1)] * 2
    report = diagnose_data(data, select=("DAT017",))
    assert [place.row for place in report.findings[0].rows.first] == [40, 41]
    assert "inconsistent-channels" in report.findings[0].faults


def test_regression_targets_are_no_class_ids(tmp_path):
    g = np.random.default_rng(0)
    x = g.normal(size=(300, 5)).astype(np.float32)
    np.savez(tmp_path / "d.npz", x=x, y=(x[:, 0] * 3 + g.normal(size=300)).astype(np.float32))
    report = diagnose_data(str(tmp_path / "d.npz"))
    assert loud(report) == []


def test_a_pt_file_of_tensors(tmp_path):
    x = X.clone()
    x[[4, 9], 2] = float("nan")
    torch.save({"x": x, "y": Y}, tmp_path / "train.pt")
    report = diagnose_data(str(tmp_path / "train.pt"), select=("DAT001",))
    assert [place.row for place in report.findings[0].rows.first] == [4, 9]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda p: np.savez(p / "d.npz", x=X.numpy(), y=Y.numpy()[:7]), "has 300 samples, y has 7"),
        (lambda p: (p / "d.npz").write_bytes(b"PK\x03\x04 no archive"), "cannot be read as arrays"),
        (lambda p: np.savez(p / "d.npz", x=np.array([{}, []], object)), "would run code"),
        (lambda p: (p / "d.npy").write_bytes(b""), "cannot be read as arrays"),
    ],
)
def test_arrays_that_cannot_be_read_are_one_clear_line(make, words, tmp_path):
    make(tmp_path)
    (file,) = tmp_path.iterdir()
    with pytest.raises(DoctorError, match=words):
        diagnose_data(str(file))


def test_a_data_set_by_the_name_of_its_module(tmp_path, monkeypatch):
    (tmp_path / "data.py").write_text(
        "import torch\nfrom torch.utils.data import TensorDataset\n"
        "x = torch.randn(80, 3)\nx[5] = float('nan')\nbroken = TensorDataset(x, torch.arange(80) % 2)\n"
        "def made():\n    return broken\n"
    )
    monkeypatch.chdir(tmp_path)
    for name in ("broken", "made"):
        result = CliRunner().invoke(main, ["diagnose", f"data.py:{name}"])
        assert result.exit_code == 1, result.output
        assert "1 of 80 samples hold NaN" in result.output
    assert CliRunner().invoke(main, ["diagnose", "data.py:brokn"]).exit_code == 2


def test_all_rows_go_to_a_file(tmp_path):
    pyarrow = pytest.importorskip("pyarrow.parquet")
    x = X.numpy().copy()
    x[:40, 1] = np.nan
    np.savez(tmp_path / "d.npz", x=x, y=Y.numpy())
    rows = tmp_path / "rows.parquet"
    result = CliRunner().invoke(main, ["diagnose", str(tmp_path / "d.npz"), "--select", "DAT001", "--rows", str(rows)])
    assert result.exit_code == 1
    assert pyarrow.read_table(rows)["row"].to_pylist() == list(range(40))
