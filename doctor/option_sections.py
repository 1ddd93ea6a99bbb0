"""The options of a command in sections, so that one sees which concern what one has."""

from __future__ import annotations

import click

SECTIONS = {
    "Of data": ("target_column", "train", "valid", "test", "split_column", "sample", "memory_limit", "tokenizer",
                "max_length", "rows_path"),
    "Of programs": ("steps", "timeout_s", "jobs", "record", "diff", "fix", "yes"),
    "Rules and trials": ("select", "ignore", "overrides", "no_confirm", "confirm_seeds", "confirm_steps"),
    "The report": ("format_", "output", "color", "no_progress", "verbose", "quiet"),
    "Exit status, and what is accepted": ("fail_on", "exit_zero", "require", "baseline", "write_baseline", "reason", "expires"),
}  # fmt: skip


class Sectioned(click.Command):
    """A command whose help has a heading above each group of `SECTIONS`, and the others below."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write all options."""
        left = {param.name: param for param in self.get_params(ctx) if isinstance(param, click.Option)}
        for heading, names in SECTIONS.items():
            self._section(ctx, formatter, heading, [left.pop(name) for name in names if name in left])
        self._section(ctx, formatter, "Else", list(left.values()))

    @staticmethod
    def _section(ctx: click.Context, formatter: click.HelpFormatter, heading: str, params: list[click.Option]) -> None:
        records = [record for param in params if (record := param.get_help_record(ctx)) is not None]
        if records:
            with formatter.section(heading):
                formatter.write_dl(records)
