"""Arguments of calls."""

from __future__ import annotations

import libcst as cst

from doctor.patches.edits.arguments import ReplaceArgument, Value
from doctor.patches.names import optimizer_calls
from doctor.patches.source import CannotEdit, Site, argument, called, dotted, expression
from doctor.patches.surgery import performs
from doctor.patches.values import origin


@performs(ReplaceArgument)
def replace_argument(edit: ReplaceArgument, site: Site) -> None:
    """Change the argument, or the place where its value comes from."""
    call = _call(edit, site)
    if edit.keyword == "shuffle" and any(argument(call, name, None) for name in ("sampler", "batch_sampler")):
        raise CannotEdit("a loader with a sampler is not shuffled")
    new = literal(edit.value)
    given = argument(call, edit.keyword, edit.position)
    if given is None:
        if not edit.add or any(arg.star for arg in call.args):
            raise CannotEdit(f"{called(call)} has no argument {edit.keyword}")
        site.replace(call, lambda updated: with_argument(updated, edit.keyword, new))
        return
    source, node = site.source, given.value
    if edit.follow:
        try:
            source, node = origin(site.project, source, node)
        except CannotEdit:
            source, node = site.source, given.value
    site.replace(node, new, source)


def _call(edit: ReplaceArgument, site: Site) -> cst.Call:
    source = site.source
    here = source.at(site.line, cst.Call)
    named = [call for call in here if called(call) in edit.call] if edit.call else here
    having = [call for call in named if argument(call, edit.keyword, edit.position if edit.call else None)]
    if not edit.call and not having:
        having = [call for call in optimizer_calls(site) if call in here]
    if having or (edit.call and named):
        return (having or named)[0]
    if edit.anywhere:
        every = [
            call
            for call in source.nodes(cst.Call)
            if (called(call) in edit.call if edit.call else argument(call, edit.keyword, None))
        ]
        every = [call for call in every if argument(call, edit.keyword, edit.position)] or every
        if len(every) == 1:
            return every[0]
    wanted = " or ".join(edit.call) or f"a call with {edit.keyword}"
    raise CannotEdit(f"{wanted} is not called on line {site.line}")


def literal(value: Value) -> cst.BaseExpression:
    """The node of a value; a float is written with two digits (`3e-4`, `0.012`)."""
    if isinstance(value, str):
        return expression(value)
    return expression(number(value) if isinstance(value, float) else repr(value))


def number(value: float) -> str:
    """A float as one writes it by hand."""
    text = f"{value:.2g}"
    if "e" in text:
        digits, _, exponent = text.partition("e")
        return f"{digits}e{int(exponent)}"
    if float(text) and abs(float(text)) < 1e-3:
        digits, _, exponent = f"{value:.1e}".partition("e")
        return f"{digits.removesuffix('.0')}e{int(exponent)}"
    return text if "." in text else f"{text}.0"


def with_argument(call: cst.Call, keyword: str, value: cst.BaseExpression) -> cst.Call:
    """The call with one more keyword argument, on a line of its own where the others are."""
    new = cst.Arg(
        keyword=cst.Name(keyword),
        value=value,
        equal=cst.AssignEqual(cst.SimpleWhitespace(""), cst.SimpleWhitespace("")),
    )
    if not call.args:
        return call.with_changes(args=[new])
    *others, last = call.args
    return call.with_changes(args=[*others, *followed_by(last, new, [*call.args])])


def followed_by(last: cst.Arg, new: cst.Arg, siblings: list[cst.Arg]) -> tuple[cst.Arg, cst.Arg]:
    """The last argument and one behind it, divided as their siblings are, with the old end."""
    comma = next((arg.comma for arg in siblings[:-1] if isinstance(arg.comma, cst.Comma)), None)
    divided = comma or cst.Comma(whitespace_after=cst.SimpleWhitespace(" "))
    if isinstance(last.comma, cst.Comma):  # a trailing comma, perhaps with a line end
        return last.with_changes(comma=divided), new.with_changes(comma=last.comma)
    return (
        last.with_changes(comma=divided, whitespace_after_arg=cst.SimpleWhitespace("")),
        new.with_changes(whitespace_after_arg=last.whitespace_after_arg),
    )


def is_named(node: cst.BaseExpression, name: str) -> bool:
    """Whether an expression is this dotted name."""
    return dotted(node) == name
