"""Rules: how a check is declared, found, selected and run. The engine itself knows no rule."""

from __future__ import annotations

import importlib
import importlib.metadata
import inspect
import pkgutil
import re
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from doctor import probes
from doctor.errors import DeclarationError, DoctorError, Unavailable
from doctor.evidence.base import Evidence, Given
from doctor.findings import Finding, Nature, Severity
from doctor.probes import Found, Need, needs

ENTRY_POINT_GROUP = "doctor.checks"
HEADINGS = ("What it measures", "Why it hurts", "Example", "Use instead", "When it is right", "References")


class Limits(BaseModel):
    """Thresholds of one rule; every field has a default and may be overridden in the configuration."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


CheckFunction = Callable[..., Iterator[Finding]]


@dataclass(frozen=True)
class Rule:
    """What the user sees of a check."""

    code: str
    name: str
    severity: Severity
    faq: tuple[str, ...]
    faults: tuple[str, ...]
    since: str
    nature: Nature
    family: str
    function: CheckFunction
    path: str
    line: int

    @property
    def docstring(self) -> str:
        """The rule's documentation."""
        return inspect.getdoc(self.function) or ""

    @property
    def summary(self) -> str:
        """The first sentence of the documentation."""
        return self.docstring.partition("\n")[0].strip()

    @cached_property
    def _signature(self) -> tuple[tuple[Need, ...], dict[str, Any]]:
        return needs(self.function)

    @property
    def needs(self) -> tuple[Need, ...]:
        """The evidence that the check asks for."""
        return self._signature[0]

    @property
    def limits(self) -> type[Limits] | None:
        """The model of the thresholds, if the check has any."""
        for kind in self._signature[1].values():
            if isinstance(kind, type) and issubclass(kind, Limits):
                return kind
        return None

    def section(self, heading: str) -> str:
        """The text under one heading of the documentation."""
        found = re.search(rf"^## {re.escape(heading)}\s*$(.*?)(?=^## |\Z)", self.docstring, re.M | re.S)
        return found[1].strip("\n") if found else ""

    def matches(self, selector: str) -> bool:
        """Whether a selector names this rule: its code or a prefix of it, its name, its family, or ALL."""
        return selector in ("ALL", self.name, self.family) or (
            bool(re.fullmatch(r"[A-Z]{2,4}\d*", selector)) and self.code.startswith(selector)
        )

    @property
    def looks(self) -> tuple[Rule, ...]:
        """The functions of this rule, each as a rule of its own."""
        return (self, *(replace(self, function=function) for function in _looks.get(self.code, ())))

    def looks_at(self, given: Iterable[type[Evidence]]) -> tuple[Rule, ...]:
        """The looks that concern a subject which gives this evidence: none of another kind of subject is required."""
        kinds = frozenset(given)
        return tuple(look for look in self.looks if not look._subjects() - kinds)

    def _subjects(self) -> frozenset[type[Evidence]]:
        sources = (root for need in self.needs if need.required for root in probes.roots(need.kind))
        return frozenset(source for source in sources if issubclass(source, Given))


_rules: dict[str, Rule] = {}
_looks: dict[str, list[CheckFunction]] = {}
warnings: list[str] = []


def check(
    code: str,
    name: str,
    severity: Severity,
    *,
    faq: str | tuple[str, ...] = (),
    faults: tuple[str, ...] | None = None,
    since: str = "0.1",
    nature: Nature = Nature.MISTAKE,
) -> Callable[[CheckFunction], CheckFunction]:
    """Register a check.

    `faq` names the cells of the FAQ's matrix that it serves, as `stage/question/aspect`
    (`tuning/gradients/duplicated`). `faults` are the labels of faults that it answers; by default its own name.
    `nature` says how much it explains: what names a mistake is tried and ranked before what describes a condition.
    Raises DeclarationError when the code is taken.
    """

    def register(function: CheckFunction) -> CheckFunction:
        path, line = inspect.getsourcefile(function) or "?", function.__code__.co_firstlineno
        known = _rules.get(code)
        if known is not None and (known.path, known.function.__qualname__) != (path, function.__qualname__):
            raise DeclarationError(f"{path}:{line}: {code} is already {known.path}:{known.line}")
        if known is not None and known.function.__module__ != function.__module__:
            raise DeclarationError(f"{path} is imported twice: {known.function.__module__}, {function.__module__}")
        family = Path(path).parent.name
        cells = (faq,) if isinstance(faq, str) else faq
        labels = (name,) if faults is None else faults
        _rules[code] = Rule(code, name, severity, cells, labels, since, nature, family, function, path, line)
        return function

    return register


def look(code: str) -> Callable[[CheckFunction], CheckFunction]:
    """Register a further function of the rule `code`, for another kind of subject.

    The same fault shows in a running program and in a file of data; the rule is one, its evidence is not. The
    functions' thresholds go by the same code in the configuration: one name must mean one thing.
    """

    def register(function: CheckFunction) -> CheckFunction:
        known = _looks.setdefault(code, [])
        if _identity(function) not in map(_identity, known):
            known.append(function)
        return function

    return register


def _identity(function: CheckFunction) -> tuple[str, str]:
    return function.__code__.co_filename, function.__qualname__


def load(mentioning: str | None = None, using: Iterable[str] = ()) -> Mapping[str, Rule]:
    """Import every rule set that announces itself at the entry point group; all rules by code.

    With `mentioning`, only modules whose source holds this text (a rule's code or name): to explain one rule costs
    the import of one. With `using`, only modules whose source names one of these modules of `doctor.evidence`, of rule
    sets that promise to name all that they use so (`NAMES_ITS_EVIDENCE = True` in the package); others load whole.
    A rule set that fails to import becomes a line in `warnings`, and the others still load.
    """
    texts = [f'"{mentioning}"'] if mentioning is not None else []
    named = [f"doctor.evidence.{name} " for name in using]
    for entry in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP):
        try:
            package = entry.load()
            wanted = texts or (named if getattr(package, "NAMES_ITS_EVIDENCE", False) else [])
            for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
                if not wanted or module.ispkg or _holds(module, wanted):
                    importlib.import_module(module.name)
        except DeclarationError:
            raise
        except Exception as failure:
            owner = entry.dist.name if entry.dist else entry.value
            warnings.append(f"rule set {entry.name} of {owner} was not loaded: {type(failure).__name__}: {failure}")
    return dict(sorted(_rules.items()))


def _holds(module: pkgutil.ModuleInfo, texts: Iterable[str]) -> bool:
    path = Path(getattr(module.module_finder, "path", "")) / f"{module.name.rpartition('.')[2]}.py"
    if not path.is_file():
        return True
    source = path.read_text(encoding="utf-8")
    return any(text in source for text in texts)


def rule(code_or_name: str, rules: Mapping[str, Rule]) -> Rule:
    """The rule of this code or name; raises DoctorError that names the nearest one."""
    for candidate in rules.values():
        if code_or_name in (candidate.code, candidate.name) or code_or_name.upper() == candidate.code:
            return candidate
    raise DoctorError(f'no rule "{code_or_name}"{_nearest(code_or_name, rules)}', "see doctor rules")


def select(rules: Mapping[str, Rule], chosen: Iterable[str], ignored: Iterable[str]) -> tuple[Rule, ...]:
    """The rules that are named by `chosen` (all when empty) and not by `ignored`.

    Raises DoctorError for a selector that names no rule.
    """
    chosen, ignored = tuple(chosen), tuple(ignored)
    for selector in (*chosen, *ignored):
        if not any(rule.matches(selector) for rule in rules.values()):
            raise DoctorError(f'no rule "{selector}"{_nearest(selector, rules)}', "see doctor rules")
    return tuple(
        rule
        for rule in rules.values()
        if (not chosen or any(rule.matches(selector) for selector in chosen))
        and not any(rule.matches(selector) for selector in ignored)
    )


def _nearest(text: str, rules: Mapping[str, Rule]) -> str:
    known = {rule.code: rule for rule in rules.values()} | {rule.name: rule for rule in rules.values()}
    code = re.fullmatch(r"([A-Z]+)(\d+)", text.upper())
    padded = f"{code[1]}{int(code[2]):03}" if code else ""  # OPT3 and OPT03 are OPT003
    near = [padded] if padded in known else []
    near = (
        near
        or get_close_matches(text, known, n=1, cutoff=0.5)
        or get_close_matches(text.upper(), known, n=1, cutoff=0.5)
    )
    return f"; did you mean {known[near[0]].code} ({known[near[0]].name})?" if near else ""


@dataclass(frozen=True)
class Skip:
    """A rule that could not look, and why."""

    rule: str
    reason: str
    crashed: bool = False


def limits_for(rule: Rule, overrides: Mapping[str, Mapping[str, Any]]) -> Limits | None:
    """A rule's thresholds with the configuration's overrides (by code or name); raises DoctorError on a bad one."""
    model = rule.limits
    if model is None:
        return None
    changes = {**overrides.get(rule.name, {}), **overrides.get(rule.code, {})}
    changes = {key.replace("-", "_"): value for key, value in changes.items()}
    others = {key for look in rule.looks if look.limits not in (None, model) for key in look.limits.model_fields}
    others -= set(model.model_fields)
    try:
        return model(**{key: value for key, value in changes.items() if key not in others})
    except ValidationError as failure:
        first = failure.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "extra_forbidden":
            known = ", ".join(model.model_fields)
            raise DoctorError(f'[tool.doctor.rules.{rule.code}]: unknown key "{key}"', f"known: {known}") from None
        raise DoctorError(f"[tool.doctor.rules.{rule.code}] {key}: {first['msg']}") from None


def run(
    rules: Iterable[Rule], found: Found, overrides: Mapping[str, Mapping[str, Any]]
) -> tuple[list[Finding], list[Skip]]:
    """Run the checks on the evidence; their findings, and the rules that could not look or that crashed.

    A rule with several looks is skipped when none of them could look, or one crashed.
    """
    findings: list[Finding] = []
    outcomes: dict[str, list[list[Finding] | Skip]] = {}
    for rule in rules:
        outcomes.setdefault(rule.code, []).append(run_one(rule, found, overrides))
    skipped: list[Skip] = []
    for several in outcomes.values():
        skips = [outcome for outcome in several if isinstance(outcome, Skip)]
        findings.extend(finding for outcome in several if not isinstance(outcome, Skip) for finding in outcome)
        crashed = [skip for skip in skips if skip.crashed]
        skipped.extend(crashed or (skips if len(skips) == len(several) else ()))
    return findings, [skip for index, skip in enumerate(skipped) if skip.rule not in {s.rule for s in skipped[:index]}]


def run_one(rule: Rule, found: Found, overrides: Mapping[str, Mapping[str, Any]]) -> list[Finding] | Skip:
    """Run one check; its findings as the rule declares them, or why there are none."""
    arguments: dict[str, Any] = {}
    for need in rule.needs:
        have = found.get(need.kind, Unavailable(f"no {need.kind.__name__}"))
        if isinstance(have, Evidence):
            arguments[need.parameter] = have
        elif need.required:
            return Skip(rule.code, str(have), crashed=have.crashed)
        else:
            arguments[need.parameter] = None
    for name, kind in rule._signature[1].items():
        if isinstance(kind, type) and issubclass(kind, Limits):
            arguments[name] = limits_for(rule, overrides)
    try:
        return [_declared(rule, finding) for finding in rule.function(**arguments)]
    except Exception as failure:
        at = traceback.extract_tb(failure.__traceback__)[-1]
        where = f"{Path(at.filename).name}:{at.lineno}"
        return Skip(rule.code, f"crashed ({type(failure).__name__}: {failure}, {where}); please report", crashed=True)


def _declared(rule: Rule, finding: Finding) -> Finding:
    return finding.revised(
        rule=rule.code,
        name=rule.name,
        faults=finding.faults or rule.faults,
        family=rule.family,
        nature=rule.nature,
        severity=finding.severity or rule.severity,
    )
