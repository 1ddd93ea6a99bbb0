"""Samples in zip and tar archives: the same as unpacked, what is broken in them told, nothing written to disk."""

import io
import os
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
from click.testing import CliRunner

from doctor.cli import main
from doctor.errors import DoctorError
from doctor.progress import SilentProgress
from doctor.samples import archives
from doctor.samples.layout import recognise
from doctor.samples.scan_audio import scan_audio
from doctor.samples.scan_images import scan_images
from doctor.subjects.dataset import dataset, is_data


def png(seed):
    pixels = np.random.default_rng(seed).integers(0, 255, (20, 20, 3), dtype=np.uint8)
    stream = io.BytesIO()
    PIL.Image.fromarray(pixels).save(stream, "png")
    return stream.getvalue()


def wav(seed):
    import soundfile

    stream = io.BytesIO()
    soundfile.write(stream, np.random.default_rng(seed).normal(0, 0.1, 4000), 8000, format="WAV")
    return stream.getvalue()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    top = tmp_path_factory.mktemp("photos")
    for split, each in (("train", 6), ("test", 3)):
        for number, kind in enumerate(("cat", "dog")):
            (top / "pets" / split / kind).mkdir(parents=True)
            for i in range(each):
                seed = 100 * number + i + (50 if split == "test" else 0)
                (top / "pets" / split / kind / f"{i}.png").write_bytes(png(seed))
    return top


def zipped(folder, path, **options):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, **options) as archive:
        for file in sorted(folder.rglob("*.png")):
            archive.write(file, file.relative_to(folder).as_posix())
        archive.writestr("__MACOSX/pets/train/cat/._0.png", b"no image")
    return path


def tarred(folder, path, mode="w"):
    with tarfile.open(path, mode) as archive:
        archive.add(folder / "pets", "pets")
    return path


def shard(path, samples):
    with tarfile.open(path, "w") as archive:
        for key, files in samples.items():
            for suffix, content in files.items():
                info = tarfile.TarInfo(f"{key}.{suffix}")
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return path


def read(*paths, target=None):
    return scan_images(recognise([(Path(path), None) for path in paths], target), SilentProgress())


def table(images):
    samples = images.samples
    return sorted(
        (
            name.rpartition("pets/")[2],
            samples.splits[samples.split[i]],
            samples.labels[samples.label[i]],
            images.thumbs[i].tobytes(),
            images.errors[i],
        )
        for i, name in enumerate(samples.names)
    )


@pytest.mark.parametrize("form", ["zip", "tar", "tgz", "tar.xz"])
def test_an_archive_holds_what_its_folder_holds(folder, tmp_path, form):
    path = tmp_path / f"photos.{form}"
    modes = {"tar": "w", "tgz": "w:gz", "tar.xz": "w:xz"}
    packed = zipped(folder, path) if form == "zip" else tarred(folder, path, modes[form])
    assert is_data(str(packed))
    assert table(read(packed)) == table(read(folder / "pets"))
    assert os.listdir(tmp_path) == [path.name]


def test_a_compressed_tar_can_be_read_again_and_in_any_order(folder, tmp_path):
    members = archives.listing(tarred(folder, tmp_path / "a.tgz", "w:gz")).members
    first = [member.read_bytes() for member in members]
    assert [member.read_bytes() for member in reversed(members)] == first[::-1]


def test_shards_join_the_files_of_one_key(tmp_path):
    for split, start in (("train", 0), ("val", 100)):
        for part in range(2):
            keys = range(start + 10 * part, start + 10 * part + 6)
            samples = {f"{k:06}": {"png": png(k), "cls": str(k % 3).encode(), "json": b'{"w": 20}'} for k in keys}
            shard(tmp_path / f"pets-{split}-{part:04}.tar", samples)
    source = dataset([str(tmp_path / "pets-*.tar")])
    images = source.samples.read()
    assert images.samples.count == 24
    assert images.samples.splits == ("train", "valid")
    assert images.samples.labels == ("0", "1", "2")
    assert [int(images.samples.labels[images.samples.label[i]]) for i in range(6)] == [0, 1, 2, 0, 1, 2]
    assert images.samples.names[0] == "pets-train-0000.tar/000000.png"
    assert dataset([str(tmp_path)]).samples.read().samples.count == 24


def test_labels_come_from_the_json_beside_when_it_names_them(tmp_path):
    samples = {f"{k}": {"png": png(k), "json": b'{"species": "%s"}' % (b"elk" if k % 2 else b"owl")} for k in range(8)}
    images = read(shard(tmp_path / "train.tar", samples), target="species")
    assert images.samples.labels == ("elk", "owl")


def test_recordings_have_the_text_beside_them_as_transcript(tmp_path):
    samples = {f"u{k}": {"wav": wav(k), "txt": b"say %d" % k} for k in range(4)}
    clips = scan_audio(recognise([(shard(tmp_path / "train.tar", samples), None)]), SilentProgress())
    assert clips.transcripts == ("say 0", "say 1", "say 2", "say 3")
    assert set(clips.errors) == {""}
    assert clips.rates.tolist() == [8000] * 4


def test_a_sample_without_its_image_is_told(tmp_path):
    samples = {f"{k}": {"png": png(k), "cls": b"1" if k % 2 else b"0"} for k in range(6)}
    del samples["3"]["png"]
    images = read(shard(tmp_path / "train.tar", samples))
    assert {name: error for name, error in zip(images.samples.names, images.errors, strict=True) if error} == {
        "3": "cannot be read: no file of it beside 3.cls"
    }


def test_a_flipped_bit_is_a_member_that_cannot_be_read(folder, tmp_path):
    path = zipped(folder, tmp_path / "photos.zip")
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        info = archive.infolist()[4]
    content[info.header_offset + 30 + len(info.filename) + info.compress_size // 2] ^= 0xFF
    path.write_bytes(content)
    images = read(path)
    broken = [name for name, error in zip(images.samples.names, images.errors, strict=True) if error]
    assert broken == [info.filename]


@pytest.mark.parametrize("form", ["tar", "tgz"])
def test_an_archive_that_breaks_off_gives_what_is_whole_and_says_so(folder, tmp_path, form):
    path = tarred(folder, tmp_path / f"photos.{form}", "w" if form == "tar" else "w:gz")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    images = read(path)
    errors = [error for error in images.errors if error]
    assert any("breaks off" in error for error in errors)
    assert 0 < images.errors.count("") < 18


def test_a_member_larger_than_the_bound_is_not_read(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(archives, "_LARGEST", 100)
    for path in (
        zipped(folder, tmp_path / "a.zip"),
        tarred(folder, tmp_path / "a.tar"),
        tarred(folder, tmp_path / "a.tgz", "w:gz"),
    ):
        assert all("larger than" in error for error in read(path).errors)


def test_an_archive_of_tables_is_one_clear_line(tmp_path):
    path = tmp_path / "tables.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("train.csv", "a,b\n1,2\n")
    result = CliRunner().invoke(main, ["diagnose", str(path)])
    assert result.exit_code == 2
    assert "no images and no recordings, but train.csv" in result.output
    assert "unpack it" in result.output


def test_what_is_no_archive_is_one_clear_line(tmp_path):
    path = tmp_path / "photos.zip"
    path.write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(DoctorError, match="cannot be read as an archive"):
        dataset([str(path)])
