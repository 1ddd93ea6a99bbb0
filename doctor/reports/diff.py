"""The patches of a report as one unified diff, which `git apply` and `patch -p1` read."""

from __future__ import annotations

import click

from doctor.findings import Finding
from doctor.report import Report
from doctor.reports.text import patch_line


def patched(report: Report) -> tuple[Finding, ...]:
    """The findings whose patch proved good, in the order in which their patches apply."""
    return tuple(finding for finding in report.active if finding.patch is not None and finding.patch.proven)


def render(report: Report, *, colour: bool = False) -> str:
    """Each patch under a line that says what it cures and what its trial showed.

    What was tried and did not prove good is shown commented out, so that the whole can be applied.
    """
    blocks = []
    for finding in report.active:
        patch = finding.patch
        if patch is None:
            continue
        told = patch_line(patch).removesuffix("; doctor diagnose --diff prints the patch")
        head = f"# {finding.rule} {finding.name}: {told}\n"
        out = not patch.proven and patch.effect is not None
        diff = "".join(f"# {line}" for line in patch.diff.splitlines(keepends=True)) if out else patch.diff
        blocks.append(head + (_coloured(diff) if colour else diff))
    return "".join(blocks)


def _coloured(diff: str) -> str:
    tones = {"+": "green", "-": "red", "@": "cyan"}
    return "".join(
        click.style(line, fg=tones[line[0]]) if line[0] in tones and not line.startswith(("+++", "---")) else line
        for line in diff.splitlines(keepends=True)
    )
