"""Plain .txt: a text a line, or a text a file; a table by that name is a table."""

import random

import pytest
from click.testing import CliRunner

from doctor import diagnose_data
from doctor.cli import main
from doctor.samples.prose import delimited
from doctor.subjects.dataset import DataOptions, dataset

WORDS = [
    "the",
    "cat",
    "sat",
    "on",
    "a",
    "mat",
    "while",
    "rain",
    "fell",
    "over",
    "old",
    "town",
    "and",
    "people",
    "went",
    "home",
    "early",
    "to",
    "read",
    "of",
    "ships",
]


def sentence(seed):
    g = random.Random(seed)
    return " ".join(g.choices(WORDS, k=14)) + "."


def lines(path, seeds):
    path.write_text("\n".join(map(sentence, seeds)) + "\n\n")
    return path


def test_each_line_is_a_text_and_leaks_are_told_by_line(tmp_path):
    train = lines(tmp_path / "train.txt", range(300))
    test = lines(tmp_path / "test.txt", [*range(1000, 1080), *range(10)])
    report = diagnose_data(None, train=str(train), test=str(test))
    assert report.subject.rows == 390
    (leak,) = (finding for finding in report.findings if finding.rule == "DAT003")
    assert [place.row for place in leak.rows.first] == list(range(80, 90))
    assert report.notes == ("each line of 2 .txt files is one text",)


def test_a_folder_a_class_holds_documents(tmp_path):
    for split, each, start in (("train", 30, 0), ("test", 10, 5000)):
        for number, kind in enumerate(("neg", "pos")):
            (tmp_path / split / kind).mkdir(parents=True)
            for i in range(each):
                path = tmp_path / split / kind / f"{i}.txt"
                lines(path, range(start + 100 * i + 50 * number, start + 100 * i + 50 * number + 5))
    for i in range(4):
        (tmp_path / "test" / "pos" / f"again{i}.txt").write_text((tmp_path / "train" / "pos" / f"{i}.txt").read_text())
    report = diagnose_data(str(tmp_path))
    (leak,) = (finding for finding in report.findings if finding.rule == "DAT003")
    assert [place.path for place in leak.rows.first] == [f"test/pos/again{i}.txt" for i in range(4)]
    assert report.evidence["dataset"]["classes"]["train"] == {"neg": 30, "pos": 30}
    assert report.subject.rows == 84


def test_many_files_without_classes_are_documents_and_few_are_corpora(tmp_path):
    for name, files in (("many", 40), ("few", 2)):
        (tmp_path / name).mkdir()
        for i in range(files):
            lines(tmp_path / name / f"{i}.txt", range(10 * i, 10 * i + 10))
    counts = [dataset([str(tmp_path / name)]).samples.read().samples.count for name in ("many", "few")]
    assert counts == [40, 20]


@pytest.mark.parametrize(
    ("text", "table"),
    [
        ("a\tb\n1\t2\n3\t4\n", True),
        ("1,2,3\n4,5,6\n7,8,9\n", True),
        ("Well, yes.\nNo, never.\nOh, why?\n", False),
        ("one line\n", False),
        ("He said: go; she went.\nNothing.\nMore.\n", False),
    ],
)
def test_columns_make_a_table(tmp_path, text, table):
    (tmp_path / "data.txt").write_text(text)
    assert delimited(tmp_path / "data.txt") is table
    source = dataset([], DataOptions(train=(str(tmp_path / "data.txt"),)))
    assert (source.kind == "table") is table


def test_a_text_without_an_option_says_which_one(tmp_path):
    result = CliRunner().invoke(main, ["diagnose", str(lines(tmp_path / "corpus.txt", range(20)))])
    assert result.exit_code == 2
    assert "--train" in result.output
