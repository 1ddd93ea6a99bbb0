"""Every fault put into every healthy program that it fits: sensitivity, specificity, and which rule answers what.

    python -m benchmarks.mutations --sample 200 --resume outcomes.jsonl      # run, or go on, or run again what failed
    python -m benchmarks.mutations --report outcomes.jsonl                   # the tables of what is there
    python -m benchmarks.mutations --table outcomes.jsonl                    # Markdown for the README
    python -m benchmarks.mutations --list gpt/                               # which mutants there are
    python -m benchmarks.mutations --show gpt/train+all-zero                 # what one of them changes

NAMES choose programs (parts of their paths). Samples are drawn by hash: the same each time, and a smaller one is a part
of a larger one. Without --confirm no trials run, which is some ten times faster.
"""

from __future__ import annotations

import argparse
import difflib
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import partial
from pathlib import Path

from benchmarks import tables
from benchmarks.examination import Outcome, examine
from benchmarks.programs import Specimen, healthy, sample, specimens, written


def main() -> None:
    """Read the arguments and do what they say."""
    options = _options()
    if options.report or options.table:
        outcomes = load(Path(options.report or options.table))
        print(tables.markdown(outcomes) if options.table else _report(outcomes))
        return
    chosen = specimens(options.names, options.operator)
    if options.show:
        _show(options.show)
        return
    if options.sample is not None:
        chosen = sample(chosen, options.sample)
    if options.list:
        print("\n".join(f"{s.name:<70} {s.mutant.fault:<26} {min(s.mutant.lines, default=0)}" for s in chosen))
        return
    outcomes = run(chosen, options.names, options.confirm, options.jobs, options.resume, options.healthy)
    print("\n" + _report(outcomes))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAMES")
    parser.add_argument("--operator", action="append", default=[], help="only this operator, or this fault")
    parser.add_argument("--sample", type=int, metavar="N", help="so many mutants, one of each operator in turn")
    parser.add_argument("--confirm", action=argparse.BooleanOptionalAction, default=False, help="with trials")
    parser.add_argument(
        "--healthy", action=argparse.BooleanOptionalAction, default=True, help="the unchanged programs, too"
    )
    parser.add_argument("--resume", type=Path, metavar="FILE", help="outcomes are kept there, and not made twice")
    parser.add_argument("--jobs", type=int, default=1, help="programs at once, each on one thread")
    parser.add_argument("--report", metavar="FILE")
    parser.add_argument("--table", metavar="FILE")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--show", metavar="MUTANT")
    return parser.parse_args()


def run(
    chosen: Sequence[Specimen],
    names: Sequence[str] = (),
    confirm: bool = False,
    jobs: int = 1,
    keep: Path | None = None,
    with_healthy: bool = True,
) -> list[Outcome]:
    """Examine them (and the healthy programs), several at a time; what `keep` already holds is not done again."""
    extra = ("--jobs", "1") if confirm else ("--no-confirm",)
    threads = 1 if jobs > 1 else None
    work: dict[str, Callable[[], Outcome]] = {}
    if with_healthy:
        work |= {p.name: partial(examine, p, extra, threads=threads) for p in healthy(names)}
    work |= {s.name: partial(_mutant, s, extra, threads) for s in chosen}
    done = {o.name: o for o in load(keep) if not o.failure} if keep is not None and keep.exists() else {}
    outcomes = [done[name] for name in work if name in done]
    missing = {name: task for name, task in work.items() if name not in done}
    started = time.monotonic()
    with ThreadPoolExecutor(jobs) as pool:
        running = [pool.submit(task) for task in missing.values()]
        try:
            for number, future in enumerate(as_completed(running), 1):
                outcome = future.result()
                outcomes.append(outcome)
                if keep is not None:
                    with keep.open("a") as file:
                        file.write(outcome.dump() + "\n")
                left = (time.monotonic() - started) / number * (len(missing) - number)
                print(f"{number:>4}/{len(missing)} {left / 60:4.0f} min left  {tables.row(outcome)}", flush=True)
        except KeyboardInterrupt:
            for future in running:
                future.cancel()
            raise
    return outcomes


def _mutant(specimen: Specimen, extra: Sequence[str], threads: int | None) -> Outcome:
    with written(specimen) as program:
        return examine(program, extra, specimen.name, specimen.mutant.operator, threads)


def load(path: Path) -> list[Outcome]:
    """Kept outcomes; of several for one name the last counts."""
    lines = path.read_text().splitlines()
    return list({o.name: o for o in map(Outcome.parse, filter(None, lines))}.values())


def _report(outcomes: Sequence[Outcome]) -> str:
    return "\n\n".join([tables.confusion(outcomes), tables.by_rule(outcomes), tables.summary(outcomes)])


def _show(name: str) -> None:
    program, _, operator = name.partition("+")
    found = [s for s in specimens([program], [operator]) if s.name == name]
    if not found:
        raise SystemExit(f"no mutant {name}; --list shows all")
    before, after = found[0].program.path.read_text().splitlines(), found[0].mutant.source.splitlines()
    print("\n".join(difflib.unified_diff(before, after, "healthy", found[0].mutant.fault, lineterm="", n=1)))
    print("lines:", *found[0].mutant.lines)


if __name__ == "__main__":
    main()
