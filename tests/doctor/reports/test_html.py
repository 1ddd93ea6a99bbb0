"""The HTML page: whole, self-contained, harmless."""

import json
import re
from html.parser import HTMLParser

from doctor.findings import Effect, Location, Rate, Verdict
from doctor.reports import html

VOID = {"meta", "line", "polyline", "br"}


class Page(HTMLParser):
    """Tags in balance, the addresses that a browser would ask for, scripts, and all text."""

    def __init__(self, text):
        super().__init__()
        self.open, self.requests, self.scripts, self.text, self.embedded = [], [], [], "", ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.requests += [given[name] for name in ("src", "href", "data", "action") if given.get(name)]
        assert not any(name.startswith("on") for name in given)
        if tag == "script":
            self.scripts.append(given.get("type"))
        if tag not in VOID and tag not in ("p", "li"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        assert tag in VOID

    def handle_endtag(self, tag):
        if tag not in ("p", "li"):
            assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.embedded += data
        else:
            self.text += data


def test_a_diagnosis_shows_findings_verdicts_curves_and_what_could_not_look(diagnosed):
    text = html.render(diagnosed)
    page = Page(text)
    assert "LOS004 broadcast-loss" in page.text
    assert "✔ confirmed" in page.text
    assert text.count('class="curve control"') == 1
    assert text.count('class="curve treated"') == 1
    for skip in diagnosed.skipped:
        assert skip.reason in page.text
    assert "nn.functional.mse_loss(model(x[idx]), y[idx])" in page.text
    assert json.loads(page.embedded)["findings"][0]["rule"] == "LOS004"


def test_the_page_asks_for_nothing_and_runs_nothing(diagnosed, nasty):
    for report in (diagnosed, nasty):
        text = html.render(report)
        page = Page(text)
        assert page.requests == []
        assert page.scripts == ["application/json"]
        assert "url(" not in text
        assert "@import" not in text
        assert "prefers-color-scheme: dark" in text


def test_hostile_texts_are_shown_and_not_obeyed(nasty):
    text = html.render(nasty)
    page = Page(text)
    assert "</script><script>alert(1)</script>" in page.text
    assert "<script>alert" not in text
    assert "\x1b" not in text
    assert "\x00" not in text
    text.encode("utf-8")


def test_the_response_to_the_learning_rate_is_drawn(finding, report_of):
    rates = tuple(Rate(factor=f, learning_rate=f * 0.1, loss=None if f > 1 else 1 / f) for f in (0.01, 0.1, 1.0, 10.0))
    effect = Effect(
        statistic="s", control=2.0, treated=1.0, control_curve=(2.0, 2.0), treated_curve=(2.0, 1.0), rates=rates
    )
    text = html.render(report_of(finding(effect=effect, verdict=Verdict.CONFIRMED)))
    assert text.count('class="rate') == 3
    assert "diverges</title>" in text


def test_a_long_run_and_many_findings_stay_small(finding, report_of):
    curve = tuple(2.0 / (1 + step / 100) for step in range(20_000))
    effect = Effect(statistic="s", control=2.0, treated=1.0, control_curve=curve[:200], treated_curve=curve[:200])
    many = [
        finding(location=Location(path="train.py", line=i), message="x" * 200, effect=effect) for i in range(1, 101)
    ]
    report = report_of(*many, evidence={"trace": [{"loss": value} for value in curve]})
    text = html.render(report)
    Page(text)
    assert len(text) < 1_000_000
    drawn = re.search(r'class="curve observed" points="([^"]*)"', text)
    assert len(drawn[1].split()) <= 200


def test_a_clean_report_and_an_artifact(report_of, judged):
    assert "No error and no warning" in Page(html.render(report_of())).text
    assert "a.weight" in Page(html.render(judged)).text
