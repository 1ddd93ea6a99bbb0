"""Data sets of the `datasets` library: live and saved ones are the same, and are what their columns make them."""

import io
import sys

import datasets
import numpy as np
import PIL.Image
import pytest

import doctor
from doctor.errors import DoctorError
from doctor.subjects.dataset import dataset, dataset_of, is_data

datasets.disable_progress_bars()
WORDS = [f"word{i}" for i in range(300)]


def numbers(rows, seed):
    x = np.random.default_rng(seed).normal(size=(rows, 3)).round(4)
    columns = {f"f{i}": x[:, i] for i in range(3)}
    return datasets.Dataset.from_dict({**columns, "label": (x.sum(1) > 0).astype(int)})


def texts(rows, seed):
    g = np.random.default_rng(seed)
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["neg", "pos"])})
    said = [" ".join(g.choice(WORDS, 15)) for _ in range(rows)]
    return datasets.Dataset.from_dict({"text": said, "label": g.integers(0, 2, rows)}, features=features)


def pictures(rows, seed):
    g = np.random.default_rng(seed)
    features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])})
    made = []
    for _ in range(rows):
        stream = io.BytesIO()
        PIL.Image.fromarray(g.integers(0, 255, (int(g.integers(20, 40)), 24, 3), dtype=np.uint8)).save(stream, "png")
        made.append({"bytes": stream.getvalue(), "path": None})
    return datasets.Dataset.from_dict({"image": made, "label": g.integers(0, 2, rows)}, features=features)


def divided(make, rows=60, leaked=8):
    train = make(rows, 0)
    return datasets.DatasetDict(
        train=train, validation=datasets.concatenate_datasets([make(20, 1), train.select(range(leaked))])
    )


@pytest.fixture(params=["live", "saved", "without the library"])
def given(request, tmp_path, monkeypatch):
    def give(content):
        if request.param == "live":
            return content
        content.save_to_disk(str(tmp_path / "saved"))
        assert is_data(str(tmp_path / "saved"))
        if request.param == "without the library":
            monkeypatch.setitem(sys.modules, "datasets", None)
        return str(tmp_path / "saved")

    return give


def test_columns_of_numbers_are_a_table(given):
    source = dataset_of(given(divided(numbers)))
    assert source.kind == "table"
    assert source.tables.rows_by_split == {"train": 60, "valid": 28}
    assert [column.name for column in source.tables.columns] == ["f0", "f1", "f2", "label"]


def test_a_selection_is_what_was_selected(given):
    chosen = numbers(50, 0).shuffle(seed=1).select(range(12))
    tables = dataset_of(given(chosen)).tables
    seen = sorted(row[0] for row in tables.engine.rows("SELECT c0 FROM data"))
    assert seen == sorted(chosen["f0"])


def test_texts_have_classes_by_name_and_leaks(given):
    report = doctor.diagnose_data(given(divided(texts)))
    assert set(report.evidence["dataset"]["classes"]["train"]) == {"neg", "pos"}
    (leak,) = (finding for finding in report.findings if finding.rule == "DAT003")
    assert (leak.rows.count, [place.row for place in leak.rows.first]) == (8, list(range(20, 28)))


def test_images_are_read_as_files_are(given):
    samples = dataset_of(given(divided(pictures))).samples
    images = samples.read()
    assert samples.kind == "images"
    assert set(images.errors) == {""}
    assert images.samples.labels == ("cat", "dog")
    assert images.samples.names[60] == "valid/0"
    assert len(images.samples.leaked) == 8


def test_one_split_and_token_ids(given):
    ids = datasets.Dataset.from_dict({"input_ids": [[1, 2, 3 + i] for i in range(30)]})
    source = dataset_of(given(ids))
    assert source.samples.read().form == "ids"


def test_a_transform_of_the_user_is_applied():
    content = pictures(20, 0)
    content.set_transform(lambda batch: {"pixel_values": [np.zeros((3, 4, 4), np.float32)] * len(batch["image"])})
    assert dataset_of(content).kind == "objects"


def test_a_file_that_is_cut_off_is_one_clear_line(tmp_path):
    numbers(40, 0).save_to_disk(str(tmp_path / "saved"))
    (part,) = (tmp_path / "saved").glob("*.arrow")
    part.write_bytes(part.read_bytes()[:200])
    with pytest.raises(DoctorError, match="cannot be read as Arrow"):
        dataset([str(tmp_path / "saved")])


def test_arrow_streams_are_files_like_any_other(tmp_path):
    numbers(40, 0).save_to_disk(str(tmp_path / "saved"))
    (part,) = (tmp_path / "saved").glob("*.arrow")
    assert dataset([str(part)]).tables.rows == 40
