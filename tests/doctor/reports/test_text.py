"""What reaches a terminal does not steer it."""

import re

from doctor.reports import concise, text


def test_hostile_texts_do_not_steer_the_terminal(nasty):
    for shown in (text.render(nasty, verbose=True), concise.render(nasty)):
        assert not re.search("[\x00-\x08\x0b-\x1f\ud800-\udfff]", shown)
    coloured = text.render(nasty, colour=True, verbose=True)
    assert "\x1b[31" in coloured
    assert not re.search("\x1b(?!\\[[0-9;]*m)|\x00", coloured)


def test_a_line_break_in_a_name_makes_no_line_of_its_own(nasty):
    assert not re.search(r"^::error", text.render(nasty, verbose=True) + concise.render(nasty), re.M)
