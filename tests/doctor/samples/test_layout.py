"""What folders and manifests hold, by their form alone."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

from doctor.errors import DoctorError
from doctor.samples import splits
from doctor.samples.layout import recognise


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(path)
    return path


def recording(path, suffix="PCM_16"):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.zeros(800), 8000, subtype=suffix)
    return path


def found(*paths, target=None):
    return recognise([(Path(path), None) for path in paths], target)


def facts(layout):
    return {(item.name, item.split, item.label) for item in layout.items}


def test_class_folders_under_splits(tmp_path):
    for split in ("train", "val"):
        for kind in ("cat", "dog"):
            picture(tmp_path / split / kind / "1.png")
    (tmp_path / "train" / ".DS_Store").write_text("")
    layout = found(tmp_path)
    assert facts(layout) == {
        (f"{s}/{k}/1.png", "train" if s == "train" else "valid", k) for s in ("train", "val") for k in ("cat", "dog")
    }


def test_a_flat_folder_has_no_classes(tmp_path):
    picture(tmp_path / "images" / "1.png")
    picture(tmp_path / "images" / "2.png")
    assert {item.label for item in found(tmp_path).items} == {None}


def test_split_folders_given_one_by_one(tmp_path):
    for split in ("train", "test"):
        for kind in ("a", "b"):
            picture(tmp_path / split / kind / "1.png")
    layout = found(tmp_path / "train", tmp_path / "test")
    assert {(item.split, item.label) for item in layout.items} == {
        ("train", "a"),
        ("train", "b"),
        ("test", "a"),
        ("test", "b"),
    }


def test_a_flat_folder_with_a_manifest(tmp_path):
    for name in "abcd":
        picture(tmp_path / "images" / f"{name}.png")
    (tmp_path / "labels.csv").write_text(
        "filename,label,split\na.png,cat,train\nb.png,dog,train\nc.png,cat,test\nd.png,dog,test\n"
    )
    assert facts(found(tmp_path)) == {
        ("a.png", "train", "cat"),
        ("b.png", "train", "dog"),
        ("c.png", "test", "cat"),
        ("d.png", "test", "dog"),
    }
    assert all(item.path.is_file() for item in found(tmp_path).items)


def test_the_target_names_the_label_of_a_manifest(tmp_path):
    picture(tmp_path / "a.png")
    (tmp_path / "m.csv").write_text("file,label,species\na.png,1,fox\n")
    assert [item.label for item in found(tmp_path / "m.csv", target="species").items] == ["fox"]


def test_common_voice(tmp_path):
    recording(tmp_path / "clips" / "x.wav")
    (tmp_path / "dev.tsv").write_text('client_id\tpath\tsentence\nc1\tx.wav\tShe said "yes\n')
    (item,) = found(tmp_path).items
    assert (item.split, item.text, item.path.is_file()) == ("valid", 'She said "yes', True)


def test_libri_speech(tmp_path):
    recording(tmp_path / "train" / "84" / "121" / "84-121-0000.flac")
    (tmp_path / "train" / "84" / "121" / "84-121.trans.txt").write_text("84-121-0000 GO DO YOU HEAR\n")
    (item,) = found(tmp_path).items
    assert (item.text, item.path.is_file()) == ("GO DO YOU HEAR", True)


def test_lj_speech(tmp_path):
    recording(tmp_path / "wavs" / "LJ001-0001.wav")
    (tmp_path / "metadata.csv").write_text("LJ001-0001|Printing, in the sense|Printing, in the sense\n")
    (item,) = found(tmp_path).items
    assert (item.text, item.path.is_file()) == ("Printing, in the sense", True)


def test_a_json_manifest_keeps_what_it_says_of_the_file(tmp_path):
    recording(tmp_path / "a.wav")
    (tmp_path / "train_manifest.jsonl").write_text(
        '{"audio_filepath": "a.wav", "duration": 0.1, "text": "hi"}\n{broken\n'
    )
    layout = found(tmp_path / "train_manifest.jsonl")
    assert [(item.split, dict(item.said)) for item in layout.items] == [("train", {"duration": 0.1})]
    assert len(layout.broken) == 1


def test_a_table_is_left_to_the_reader_of_tables(tmp_path):
    (tmp_path / "train.csv").write_text("a,b\n1,2\n")
    assert found(tmp_path / "train.csv") is None
    assert found(tmp_path) is None


def test_an_empty_folder_is_one_clear_line(tmp_path):
    with pytest.raises(DoctorError, match="holds no files"):
        found(tmp_path)


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train", "train"),
        ("cv-valid-train", "train"),
        ("x_test", "test"),
        ("my.dev", "valid"),
        ("latest", None),
        ("contest_images", None),
    ],
)
def test_splits_by_name(name, split):
    assert splits.of_stem(name) == split
