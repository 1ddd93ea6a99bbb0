"""Workers that all draw the same random numbers."""

from __future__ import annotations

from collections.abc import Iterator

from doctor.evidence.base import Source
from doctor.evidence.data_lines import DataLines
from doctor.evidence.sample_log import SampleLog
from doctor.evidence.worker_draws import WorkerDraws
from doctor.findings import Finding, Measure, Severity
from doctor.registry import Limits, check

from ._places import location


class WorkerLimits(Limits):
    """Thresholds of DAT018."""

    same: float = 0.5  # of the rounds in which every worker gave the same batch
    min_rounds: int = 2


@check(
    "DAT018", "worker-seed-duplication", Severity.WARNING, faq="training/data/duplicated",
    faults=("worker-seed-duplication", "duplicate-samples"),
)  # fmt: skip
def worker_seed_duplication(
    draws: WorkerDraws | None, samples: SampleLog | None, lines: DataLines | None, limits: WorkerLimits
) -> Iterator[Finding]:
    """Several workers of a DataLoader give the same augmentation, or the same samples.

    ## What it measures
    After the run two workers, started as the training loader starts its own, load the same samples twice: one worker
    draws them differently each time, the other one just as the first. Besides, whether the batches of one round over the
    workers are equal, which is what an IterableDataset does that does not share its work.
    ## Why it hurts
    A part of the augmentation is lost, and every sample of an iterable data set is seen as often as there are workers.
    ## Example
    ```python
    class Noisy(Dataset):
        def __init__(self, x):
            self.x = x
            self.rng = np.random.default_rng(0)
    ```
    ## Use instead
    ```python
    class Noisy(Dataset):
        def __init__(self, x):
            self.x = x
            self.rng = None

        def __getitem__(self, i):
            self.rng = self.rng or np.random.default_rng(torch.initial_seed())
            return self.x[i] + self.rng.normal()
    ```
    ## When it is right
    Draws from the global generators of torch, random and numpy are seeded for each worker by PyTorch, and are silent.
    ## References
    PyTorch documentation, "Randomness in multi-process data loading".
    """
    if draws is not None and draws.random and (draws.same_across_workers or draws.same_across_epochs):
        several = draws.same_across_workers and draws.workers > 1
        what = "another worker draws for a sample what the first one drew" if several else (
            "the workers of the next epoch draw for a sample what those of this one drew"
        )  # fmt: skip
        seeded = _seeding(lines)
        yield Finding(
            message=f"{what}, though one worker draws it differently each time ({draws.workers} workers)",
            location=location(draws.init, seeded, draws.source),
            measured={"workers": Measure(value=draws.workers, threshold=1)},
            remedy="seed the generator in each worker (worker_init_fn with worker_info.seed), or draw from torch's own",
            demonstrated="two workers were started and compared",
        )
        return
    for batches in samples.workers if samples else ():
        if batches.rounds >= limits.min_rounds and batches.same >= limits.same * batches.rounds:
            how = "split the work in __iter__ by torch.utils.data.get_worker_info()"
            yield Finding(
                message=f"in {batches.same} of {batches.rounds} rounds all {batches.workers} workers gave the same batch",
                location=location(batches.source),
                measured={"same": Measure(value=batches.same / batches.rounds, threshold=limits.same)},
                remedy=how if batches.iterable else "seed the generator in each worker (worker_init_fn)",
                demonstrated="equal contents of the batches of one round",
            )
            return


def _seeding(lines: DataLines | None) -> Source | None:
    """A generator that the constructor of a data set keeps."""
    found = [line for line in (lines.of("random") if lines else []) if line.source.function == "__init__"]
    kept = [line for line in found if "self" in line.names] or found
    return kept[0].source if kept else None
