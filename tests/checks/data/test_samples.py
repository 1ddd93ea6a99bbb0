"""Repeated and leaked samples, and workers that draw alike."""

from doctor.evidence.base import Source
from doctor.evidence.data_lines import DataLine, DataLines
from doctor.evidence.sample_log import EvaluatedSamples, SampleLog, SharedIndices, TrainingSamples, WorkerBatches
from doctor.evidence.worker_draws import WorkerDraws
from doctor.testing import findings_of

HERE = Source("train.py", 7, "main")
SPLIT = DataLines((DataLine("split", "train_test_split", Source("train.py", 3), ("x_train", "x_test")),))


def log(evaluated=(), shared=(), workers=(), **training):
    known = {"root": 0, "distinct": 500, "pass_samples": 500, "continuous_share": 0.9, **training}
    return SampleLog((TrainingSamples(**known),), tuple(evaluated), tuple(shared), tuple(workers))


def evaluated(seen, samples=100, **changes):
    return EvaluatedSamples(**{"root": 0, "samples": samples, "seen": seen, "covered": 0.1, "source": HERE, **changes})


class TestLeakage:
    def test_a_third_of_the_evaluated_samples_fires_at_the_split(self):
        (finding,) = findings_of("DAT003", log([evaluated(33)]), SPLIT)
        assert (finding.name, finding.location.line) == ("train-test-leakage", 3)

    def test_without_a_known_split_the_evaluation_is_named(self):
        assert findings_of("DAT003", log([evaluated(33)]))[0].location.line == 7

    def test_few_leaked_samples_are_no_error(self):
        assert findings_of("DAT003", log([evaluated(8)]))[0].severity == "warning"

    def test_loaders_that_draw_the_same_places_fire_at_the_subset(self):
        shared = SharedIndices(1, 169, 60, 460, HERE, Source("train.py", 4))
        assert findings_of("DAT003", log(shared=[shared]))[0].location.line == 4

    def test_a_report_on_a_part_of_training_beside_a_clean_one_is_silent(self):
        part = SharedIndices(1, 300, 300, 1400, HERE, Source("train.py", 4))
        clean = SharedIndices(2, 200, 0, 1400, HERE, Source("train.py", 5))
        leaking = SharedIndices(3, 200, 90, 1400, HERE, Source("train.py", 6))
        assert findings_of("DAT003", log(shared=[part]))
        assert not findings_of("DAT003", log(shared=[part, clean]))
        assert findings_of("DAT003", log(shared=[leaking, clean]))[0].location.line == 6

    def test_an_additional_report_on_the_training_set_is_silent(self):
        assert not findings_of("DAT003", log([evaluated(40, same_dataset=True), evaluated(0)]))
        assert not findings_of("DAT003", log([evaluated(40), evaluated(0)]))
        assert not findings_of("DAT003", log([evaluated(80, covered=1.0)]))

    def test_low_cardinality_tables_repeat_by_chance(self):
        assert not findings_of("DAT003", log([evaluated(90)], continuous_share=0.01, pass_repeated=300))

    def test_short_texts_repeat_by_chance_and_a_leak_stands_out(self):
        texts = {
            "continuous_share": 0.2,
            "pass_samples": 2000,
            "pass_repeated": 60,
            "distinct": 1940,
        }  # some 6 % repeat
        assert not findings_of("DAT003", log([evaluated(12)], **texts))
        assert findings_of("DAT003", log([evaluated(40)], **texts))

    def test_codes_that_hardly_repeat_in_training_and_all_in_evaluation_fire(self):
        assert findings_of("DAT003", log([evaluated(86)], continuous_share=0.02, pass_samples=20000, pass_repeated=66))

    def test_target_networks_inside_the_step_are_no_evaluation(self):
        assert not findings_of("DAT003", log([evaluated(60, steps=80)]))

    def test_windows_of_a_shuffled_series_overlap(self):
        assert findings_of("DAT003", log([evaluated(0, pieces=90, pieces_seen=85)]))

    def test_windows_at_the_border_of_a_split_by_time_are_silent(self):
        assert not findings_of("DAT003", log([evaluated(0, pieces=90, pieces_seen=12)]))


class TestDuplicates:
    def test_half_of_a_pass_fires(self):
        assert findings_of("DAT002", log(pass_repeated=250))

    def test_some_repeats_and_categories_are_silent(self):
        assert not findings_of("DAT002", log(pass_repeated=20))
        assert not findings_of("DAT002", log(pass_repeated=400, continuous_share=0.02))

    def test_copies_of_all_samples_fire_whatever_their_values_and_chance_repeats_do_not(self):
        coarse = {"pass_samples": 1200, "pass_repeated": 1160, "continuous_share": 0.02}
        assert findings_of("DAT002", log(**coarse, pass_unevenness=0.0))
        assert not findings_of("DAT002", log(**coarse, pass_unevenness=0.9))
        assert not findings_of(
            "DAT002", log(**{**coarse, "pass_repeated": 1192}, pass_unevenness=0.0)
        )  # 8 rows: a truth table


class TestWorkers:
    def test_the_same_noise_in_two_workers_fires_where_the_generator_is_made(self):
        lines = DataLines(
            (
                DataLine("random", "default_rng", Source("train.py", 2, "__init__"), ("base",)),
                DataLine("random", "default_rng", Source("train.py", 4, "__init__"), ("self", "rng")),
            )
        )
        (finding,) = findings_of("DAT018", WorkerDraws(2, True, True, True, source=HERE), lines)
        assert finding.location.line == 4

    def test_the_same_noise_in_every_epoch_fires(self):
        assert findings_of("DAT018", WorkerDraws(1, True, False, True, source=HERE))[0].location.line == 7

    def test_an_iterable_that_every_worker_reads_whole_fires(self):
        assert findings_of("DAT018", log(workers=[WorkerBatches(2, 10, 10, True, HERE)]))

    def test_deterministic_samples_and_seeded_workers_are_silent(self):
        assert not findings_of("DAT018", WorkerDraws(2, False, False, False))
        assert not findings_of("DAT018", WorkerDraws(2, True, False, False))
        assert not findings_of("DAT018", log(workers=[WorkerBatches(2, 10, 0, False, HERE)]))
