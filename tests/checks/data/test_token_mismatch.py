"""Evaluated texts whose words training does not know."""

import torch

from doctor.evidence.base import Source
from doctor.evidence.token_log import StrangeToken, TokenLog, TokenRecord
from doctor.observe.watches.vocabulary import _strange, _Texts
from doctor.testing import findings_of

HERE = Source("train.py", 61)


def texts(unknown, sequences=200, writes=False):
    """Sequences over 90 words, a share of whose tokens is the id 1; or which end in one id that a model repeats."""
    generator = torch.Generator().manual_seed(3)
    ids = torch.randint(2, 92, (sequences, 20), generator=generator)
    ids[torch.rand(ids.shape, generator=generator) < unknown] = 1
    if writes:
        ids[:, 6:] = 1
    counted = _Texts(100)
    counted.add(ids)
    return counted


def judged(training, evaluation):
    seen = StrangeToken(*_strange(training, evaluation, {0}))
    record = TokenRecord(100, 0, 99, used=90, source=HERE, strange=seen)
    return [f for f in findings_of("DAT016", TokenLog((record,))) if "tokens" in f.message]


def test_words_that_only_evaluation_does_not_know_fire():
    (finding,) = judged(texts(0.0), texts(0.35))
    assert (finding.level, finding.location.line) == ("warning", 61)
    assert {"preprocessing-mismatch", "token-out-of-vocab"} <= {*finding.faults}


def test_a_few_new_words_and_words_that_training_misses_too_are_silent():
    assert not judged(texts(0.0), texts(0.06))
    assert not judged(texts(0.25), texts(0.35))


def test_a_vocabulary_cut_to_its_commonest_words_is_told_as_info():
    (finding,) = judged(texts(0.06), texts(0.3))
    assert finding.level == "info"


def test_a_text_that_the_model_writes_and_few_sequences_are_silent():
    assert not judged(texts(0.0), texts(0.0, writes=True))
    assert not judged(texts(0.0), texts(0.35, sequences=8))
