"""Records of text: their form, the order of speakers, damage, overlap, tokens."""

import json

import numpy as np
import pytest

from doctor import diagnose_data
from doctor.samples.minhash import plain, sketch
from doctor.samples.neighbours import nearest, nearest_sketches
from doctor.samples.records import form_of, record_of
from doctor.samples.wording import damage, endless


@pytest.mark.parametrize(
    ("record", "kind", "text", "answer"),
    [
        (
            {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
            "chat",
            "messages",
            None,
        ),
        (
            {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]},
            "chat",
            "conversations",
            None,
        ),
        ({"instruction": "do", "input": "x", "output": "done"}, "answer", "instruction", "output"),
        ({"prompt": "a", "completion": "b"}, "answer", "prompt", "completion"),
        ({"text": "nice", "label": 1}, "classified", "text", "label"),
        ({"text": "nice"}, "plain", "text", None),
        ({"input_ids": [1, 2, 3]}, "ids", "input_ids", None),
    ],
)
def test_forms(record, kind, text, answer):
    form = form_of(
        [record, {**record, "output": record.get("output", "x") + " more"} if "output" in record else record] * 3
    )
    assert (form.text, form.answer) == (text, answer)
    assert form.kind in (kind, "classified" if answer else kind)


def test_many_answers_are_free_ones():
    records = [{"prompt": f"question {i}", "completion": f"a long answer with the number {i}"} for i in range(50)]
    assert form_of(records).kind == "answer"


def test_a_table_with_a_column_of_text_is_a_table():
    assert form_of([{"title": "x", "label": 1, "a": 1.0, "b": 2.0, "c": 3.0, "d": 4.0}] * 9) is None


def chat(*roles):
    return [{"role": role, "content": "words"} for role in roles]


@pytest.mark.parametrize(
    ("roles", "wrong"),
    [
        (("user", "assistant"), None),
        (("system", "user", "assistant", "user", "assistant"), None),
        (("user", "assistant", "tool", "assistant"), None),
        (("assistant", "user"), "the first turn is the assistant's"),
        (("user", "user", "assistant"), "two turns of the user in a row"),
        (("user", "assistant", "system", "user"), "a system message after the first turn"),
        (("user", "wizard"), "the unknown role 'wizard'"),
    ],
)
def test_the_order_of_speakers(roles, wrong):
    form = form_of([{"messages": chat("user", "assistant")}])
    assert record_of({"messages": chat(*roles)}, form).roles == wrong


@pytest.mark.parametrize(
    "text",
    [
        "plain",
        "na\u00efve fa\u00e7ade",
        "S\u00c3O PAULO",
        "20\u00b0C \u00b15 \u00bd",
        "voil\u00e0\u00bb",
        "\u041f\u0440\u0438\u0432\u0435\u0442 \u2014 \u4f60\u597d \U0001f600",
        "\u00ab \u00e9lev\u00e9 \u00bb",
    ],
)
def test_sound_texts(text):
    assert damage(text) is None


@pytest.mark.parametrize("letter", ["\u00e9", "\u00fc", "\u2019", "\u2014", "\u00df", "\u0416", "\u00b0", "\u20ac"])
@pytest.mark.parametrize("wrong", ["cp1252", "latin-1"])
def test_letters_read_in_a_wrong_encoding(letter, wrong):
    assert damage(f"word {letter.encode().decode(wrong, 'ignore')} word") is not None or wrong == "cp1252"
    assert damage("word \ufffd word") is not None


def test_endless_texts():
    assert endless("the cat sat on the mat. " * 30)
    assert not endless(" ".join(str(number) for number in range(200)))


def test_a_sketch_estimates_the_overlap_of_texts():
    g = np.random.default_rng(0)
    words = ["".join(g.choice(list("abcdefghij"), 6)) for _ in range(400)]
    text = list(g.choice(words, 80))
    for changed in (2, 10, 40):
        other = list(text)
        other[:changed] = g.choice(words, changed)
        one, two = (plain(" ".join(t)) for t in (text, other))
        pieces = [{t[i : i + 5] for i in range(len(t) - 4)} for t in (one, two)]
        true = len(pieces[0] & pieces[1]) / len(pieces[0] | pieces[1])
        assert abs((sketch(one) == sketch(two)).mean() - true) < 0.13
    assert (sketch(plain("Hello,  World again")) == sketch(plain("hello world AGAIN"))).all()


def test_the_nearest_sketch_is_found_by_bands():
    texts = [f"sentence number {i} speaks of {i * 7919 % 1000} different things and {i * 31} more" for i in range(200)]
    sketches = np.stack([sketch(plain(text)) for text in texts])
    query = np.stack([sketch(plain(texts[57] + " indeed"))])
    where, distance = nearest_sketches(query, sketches)
    assert (where[0], distance[0] < 0.35) == (57, True)


def test_the_nearest_vector_agrees_with_all_pairs():
    g = np.random.default_rng(1)
    queries, references = g.normal(size=(30, 9)).astype(np.float32), g.normal(size=(80, 9)).astype(np.float32)
    every = np.linalg.norm(queries[:, None] - references[None], axis=2)
    where, distance = nearest(queries, references)
    assert (where == every.argmin(1)).all()
    assert np.allclose(distance, every.min(1), atol=1e-4)


TEXTS = [f"how does the river {i} find the sea after {i * 7} days" for i in range(120)]


def words_tokenizer(folder, length=None):
    tokenizers = pytest.importorskip("tokenizers")
    transformers = pytest.importorskip("transformers")
    known = {
        word: i for i, word in enumerate(["[UNK]", "[PAD]", *sorted({w for text in TEXTS[:60] for w in text.split()})])
    }
    model = tokenizers.Tokenizer(tokenizers.models.WordLevel(known, unk_token="[UNK]"))
    model.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=model, unk_token="[UNK]", pad_token="[PAD]", model_max_length=length or 512
    )
    fast.save_pretrained(folder)
    return str(folder)


def write(path, texts):
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    return str(path)


def test_unknown_tokens_are_counted(tmp_path):
    data = write(tmp_path / "data.jsonl", TEXTS)
    report = diagnose_data(data, tokenizer=words_tokenizer(tmp_path / "words"))
    (finding,) = [f for f in report.findings if f.rule == "DAT019"]
    words = [word for text in TEXTS for word in text.split()]
    seen = {word for text in TEXTS[:60] for word in text.split()}
    assert finding.measured["unknown"].value == pytest.approx(sum(word not in seen for word in words) / len(words))


def test_records_longer_than_the_model_are_listed(tmp_path):
    texts = TEXTS[:50] + [" ".join(TEXTS[:4]) for _ in range(10)]
    report = diagnose_data(
        write(tmp_path / "data.jsonl", texts), tokenizer=words_tokenizer(tmp_path / "w", 20), select=("DAT019",)
    )
    (finding,) = report.findings
    assert sorted(place[2] for place in finding.rows.every) == list(range(50, 60))


def test_a_fitting_tokenizer_is_silent(tmp_path):
    report = diagnose_data(write(tmp_path / "data.jsonl", TEXTS[:60]), tokenizer=words_tokenizer(tmp_path / "w"))
    assert not [f for f in report.findings if f.rule == "DAT019"]


def test_without_a_tokenizer_the_rule_says_what_to_give(tmp_path):
    report = diagnose_data(write(tmp_path / "data.jsonl", TEXTS), select=("DAT019", "DAT020"))
    assert not report.findings


def test_many_repeated_short_prompts_are_no_leak(tmp_path):
    g = np.random.default_rng(0)
    for split, n in (("train", 300), ("test", 120)):
        rows = [
            {
                "text": str(g.choice(["thanks", "hello there", "ok", "good morning", "bye"]))
                if g.random() < 0.4
                else f"please book a table for {g.integers(900)} people at {g.integers(99999)} street",
                "label": int(g.integers(3)),
            }
            for _ in range(n)
        ]
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = diagnose_data(str(tmp_path), select=("DAT003", "DAT004", "DAT002", "DAT005"))
    assert [f.message for f in report.findings if f.level != "info"] == []
