"""Whole data sets with one fault planted: it is found, with the rows it was planted in, and nothing else is said."""

import importlib.util
from pathlib import Path

import pytest

from doctor import diagnose_data
from doctor.findings import Severity

FOLDER = Path(__file__).resolve().parents[3] / "fixtures" / "samples"


def _load(name):
    spec = importlib.util.spec_from_file_location(f"planted_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


images, speech, texts, arrays = (_load(name) for name in ("images", "speech", "texts", "arrays"))


def diagnosed(make, folder, fault, **options):
    planted = make(folder / "data", fault, **options)
    return planted, diagnose_data(str(folder / "data"))


def loud(report):
    return [finding for finding in report.findings if finding.level is not Severity.INFO]


HEALTHY = [
    (images.photos, None, {"each": (40, 16)}),
    (images.photos, "siblings", {"each": (40, 16)}),
    (lambda folder, fault: images.digits(folder), None, {}),
    (speech.corpus, None, {"each": (70, 45)}),
    (speech.corpus, "commands", {"each": (70, 45)}),
    (speech.corpus, None, {"each": (45, 40), "form": "jsonl"}),
    (texts.reviews, None, {}),
    (texts.reviews, "imbalance", {}),
    (texts.instructions, None, {}),
    (texts.instructions, "accents", {}),
    (texts.chats, None, {}),
    (arrays.arrays, None, {"each": (400, 150)}),
]


@pytest.mark.parametrize(("make", "kind", "options"), HEALTHY, ids=lambda value: getattr(value, "__name__", str(value)))
def test_a_healthy_set_is_silent(make, kind, options, tmp_path):
    _, report = diagnosed(make, tmp_path, kind, **options)
    assert [(finding.rule, finding.message) for finding in loud(report)] == []
    assert not [skip for skip in report.skipped if "crash" in skip.reason]


# maker, fault, label, what the rows are known by, whether all of them are exact
PHOTOS, SPEECH, SMALL = {"each": (40, 16)}, {"each": (70, 45)}, {"each": (500, 200)}
PLANTED = [
    (images.photos, "truncated", "corrupt-file", PHOTOS, 0.0),
    (images.photos, "grey", "inconsistent-channels", PHOTOS, 0.0),
    (images.photos, "leak", "train-test-leakage", PHOTOS, 0.0),
    (images.photos, "near-leak", "near-duplicate-leakage", {"each": (60, 24)}, 0.0),
    (images.photos, "noise", "label-noise", {"each": (60, 24)}, 0.15),
    (images.photos, "conflict", "conflicting-labels", PHOTOS, 0.0),
    (images.photos, "duplicates", "duplicate-samples", PHOTOS, 0.0),
    (images.photos, "bgr-test", "wrong-channel-order", PHOTOS, None),
    (images.photos, "bgr-some", "wrong-channel-order", {"each": (60, 24)}, 0.5),
    (images.photos, "dark-test", "distribution-drift", PHOTOS, None),
    (images.photos, "absent", "class-imbalance", PHOTOS, None),
    (images.photos, "spelling", "label-encoding", PHOTOS, 0.0),
    (speech.corpus, "rate", "inconsistent-sample-rate", SPEECH, 0.0),
    (speech.corpus, "stereo", "inconsistent-channels", SPEECH, 0.0),
    (speech.corpus, "empty", "empty-transcripts", SPEECH, 0.0),
    (speech.corpus, "truncated", "corrupt-file", SPEECH, 0.0),
    (speech.corpus, "silent", "corrupt-file", SPEECH, 0.0),
    (speech.corpus, "clipped", "corrupt-file", SPEECH, 0.0),
    (speech.corpus, "shifted", "misaligned-labels", SPEECH, None),
    (speech.corpus, "leak", "train-test-leakage", SPEECH, 0.0),
    (speech.corpus, "mojibake", "text-encoding", SPEECH, 0.0),
    (texts.reviews, "leak", "train-test-leakage", {}, 0.0),
    (texts.reviews, "near-leak", "near-duplicate-leakage", {}, 0.0),
    (texts.reviews, "conflict", "conflicting-labels", {}, 0.0),
    (texts.reviews, "noise", "label-noise", {}, 0.15),
    (texts.reviews, "misaligned", "misaligned-labels", {}, None),
    (texts.instructions, "malformed", "malformed-records", {}, 0.0),
    (texts.instructions, "mojibake", "text-encoding", {}, 0.0),
    (texts.instructions, "latin", "text-encoding", {}, 0.0),
    (texts.instructions, "empty", "missing-values", {}, 0.0),
    (texts.instructions, "shifted", "misaligned-labels", {}, None),
    (texts.instructions, "duplicates", "duplicate-samples", {}, 0.0),
    (texts.instructions, "leak", "train-test-leakage", {}, 0.0),
    (texts.chats, "roles", "malformed-records", {}, 0.0),
    (texts.chats, "no-content", "missing-values", {}, 0.0),
    (arrays.arrays, "nan", "missing-values", SMALL, 0.0),
    (arrays.arrays, "nan-target", "missing-values", SMALL, 0.0),
    (arrays.arrays, "scale", "preprocessing-mismatch", SMALL, None),
    (arrays.arrays, "some-scale", "preprocessing-mismatch", SMALL, 0.0),
    (arrays.arrays, "offset", "label-encoding", SMALL, None),
    (arrays.arrays, "one-based", "label-encoding", SMALL, None),
    (arrays.arrays, "outside", "label-encoding", SMALL, 0.0),
    (arrays.arrays, "negative", "label-encoding", SMALL, 0.0),
    (arrays.arrays, "leak", "train-test-leakage", SMALL, 0.0),
    (arrays.arrays, "near-leak", "near-duplicate-leakage", SMALL, 0.0),
    (arrays.arrays, "noise", "label-noise", SMALL, 0.15),
    (arrays.arrays, "misaligned", "misaligned-labels", SMALL, None),
    (arrays.arrays, "bgr", "wrong-channel-order", SMALL, None),
    (arrays.arrays, "permuted", "label-encoding", SMALL, None),
]


@pytest.mark.parametrize(
    ("make", "fault", "label", "options", "missed"), PLANTED, ids=lambda value: getattr(value, "__name__", str(value))
)
def test_a_planted_fault_is_found_where_it_is(make, fault, label, options, missed, tmp_path):
    planted, report = diagnosed(make, tmp_path, fault, **options)
    found = loud(report)
    assert [finding.rule for finding in found if label not in finding.faults] == []
    assert len(found) == 1
    if missed is not None:
        by_name = make in (images.photos, speech.corpus)
        rows = {place[1] if by_name else place[2] for place in found[0].rows.every}
        assert len(rows - set(planted)) <= 0.05 * len(planted)
        assert len(set(planted) - rows) <= missed * len(planted)


def test_a_block_of_shifted_labels_is_told_with_its_rows(tmp_path):
    planted, report = diagnosed(arrays.arrays, tmp_path, "tail", each=(900, 100))
    (finding,) = loud(report)
    assert finding.faults == ("misaligned-labels",)
    assert {row for _, _, row in finding.rows.every} == set(planted)


def test_classes_that_cannot_be_told_apart_are_no_label_noise(tmp_path):
    import numpy as np

    g = np.random.default_rng(2)
    x, y = arrays.pictures(700, g)
    y[y == 1] = 2 * g.integers(0, 2, (y == 1).sum()) + 1  # one look, two classes
    np.savez(tmp_path / "data.npz", x=x, y=np.where(y == 3, 1, y))
    assert not [finding for finding in loud(diagnose_data(str(tmp_path / "data.npz"))) if finding.rule == "DAT013"]


def test_frames_of_a_fixed_camera_are_no_leak(tmp_path):
    import numpy as np

    g = np.random.default_rng(3)
    scene = images.picture("barn", g, (64, 48))
    base = np.asarray(scene, np.float32)
    from PIL import Image

    for split, n in (("train", 60), ("test", 25)):
        for kind in ("empty", "person"):
            (tmp_path / split / kind).mkdir(parents=True)
            for i in range(n):
                frame = base + g.normal(0, 5, base.shape)
                if kind == "person":
                    left = int(g.integers(0, 54))
                    frame[10:40, left : left + 10] = g.uniform(0, 255, 3)
                Image.fromarray(np.clip(frame, 0, 255).astype(np.uint8)).save(tmp_path / split / kind / f"{i}.png")
    assert [(f.rule, f.message) for f in loud(diagnose_data(str(tmp_path)))] == []


def test_cut_and_turned_copies_are_near_duplicates(tmp_path):
    from PIL import Image

    images.photos(tmp_path, None, each=(60, 24))
    made = set()
    for number, source in enumerate(sorted((tmp_path / "train").rglob("*.*"))[::15]):
        photo = Image.open(source).convert("RGB")
        w, h = photo.size
        copy = photo.rotate(3) if number % 2 else photo.crop((w // 20, h // 20, w - w // 20, h - h // 20))
        copy.save(tmp_path / "test" / source.parent.name / f"again_{number}.png")
        made.add(f"test/{source.parent.name}/again_{number}.png")
    (finding,) = loud(diagnose_data(str(tmp_path), select=("DAT004",)))
    assert {path for _, path, _ in finding.rows.every} == made


def test_handwritten_digits_are_healthy(tmp_path):
    import numpy as np
    from sklearn.datasets import load_digits

    data = load_digits()
    np.savez(
        tmp_path / "d.npz",
        x_train=data.images[:1200],
        y_train=data.target[:1200],
        x_test=data.images[1200:],
        y_test=data.target[1200:],
    )
    assert [(f.rule, f.message) for f in loud(diagnose_data(str(tmp_path / "d.npz")))] == []
