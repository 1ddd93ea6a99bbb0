"""What deepchecks' two data suites take on a table, check by check, as JSON lines: run by a Python that has deepchecks.

`PYTHON benchmarks/deepchecks_suites.py FOLDER` reads train.parquet and test.parquet there. Its defaults are kept (most checks
sample 10,000 to 100,000 rows), pictures are left out. deepchecks 0.19.1 needs scikit-learn < 1.6, numpy < 2 and pyarrow < 19.
A check that fails or the whole that is stopped leaves the lines of those before it.
"""

# mypy: ignore-errors
import json
import resource
import sys
import time
import warnings
from pathlib import Path

warnings.filterwarnings("ignore")


def cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    import pandas as pd
    from deepchecks.tabular import Dataset
    from deepchecks.tabular.suites import data_integrity, train_test_validation

    def told(what: str, wall: float, began: float, **more: object) -> None:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        line = {
            "check": what,
            "cpu_s": round(cpu() - began, 2),
            "wall_s": round(time.monotonic() - wall, 2),
            "peak_mb": peak,
        }
        print(json.dumps({**line, **more}), flush=True)

    told("imports", time.monotonic(), 0.0)
    wall, began = time.monotonic(), cpu()
    texts = ["c0", "c1", "c2", "c3", "flag"]
    splits = [
        Dataset(pd.read_parquet(Path(sys.argv[1]) / f"{name}.parquet"), label="label", cat_features=texts)
        for name in ("train", "test")
    ]
    told("reading", wall, began)
    integrity = list(data_integrity().checks.values())
    # The slowest last, so that a run that is stopped has measured the others.
    integrity.sort(key=lambda check: type(check).__name__ == "ConflictingLabels")
    comparison = list(train_test_validation().checks.values())
    comparison.sort(key=lambda check: type(check).__name__ == "TrainTestSamplesMix")
    runs = [(check, (split,)) for check in integrity for split in splits] + [(check, splits) for check in comparison]
    for check, data in runs:
        wall, began = time.monotonic(), cpu()
        try:
            check.run(*data, with_display=False)
        except Exception as failure:
            told(type(check).__name__, wall, began, failed=str(failure)[:80])
        else:
            told(type(check).__name__, wall, began)
    told("finished", time.monotonic(), cpu())


if __name__ == "__main__":
    main()
