"""The page of a data set: pictures beside the findings, nothing asked for from elsewhere, nothing secret shown."""

import importlib.util
import io
import json
import re
import xml.etree.ElementTree as ET
from base64 import b64decode
from pathlib import Path

import numpy as np
import pandas as pd
import PIL.Image
import pytest
from click.testing import CliRunner

from doctor import diagnose_data
from doctor.cli import main
from doctor.reports import render

FOLDER = Path(__file__).resolve().parents[3] / "fixtures" / "samples"
CARD, MAIL = "4111 1111 1111 1111", "jane.doe@mail.com"


def fixture(name):
    spec = importlib.util.spec_from_file_location(f"page_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def drawings(page):
    """All charts as XML, which they must be."""
    return [ET.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", page, re.S)]


def pictures(page):
    """What the page asks for: nothing but data that it holds."""
    sources = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert all(source.startswith("data:image/") for source in sources)
    return [PIL.Image.open(io.BytesIO(b64decode(source.partition(",")[2]))) for source in sources]


def shops(rows, seed):
    g = np.random.default_rng(seed)
    size = g.normal(50, 9, rows).round(2)
    frame = pd.DataFrame({"size": size, "visits": g.poisson(30, rows), "town": g.choice(["Ulm", "Bonn", "Kiel"], rows)})
    frame["rent"] = (8 * size + g.normal(0, 20, rows)).round(1)
    frame["open"] = (size + g.normal(0, 6, rows) > 50).astype(int)
    return frame


@pytest.fixture(scope="module")
def sick():
    train, test = shops(700, 0), shops(300, 1)
    train.loc[train.index[:60], "visits"] = -999
    train["note"] = [f"ask {MAIL}, card {CARD}" if i % 50 == 0 else "<b>fine</b>" for i in range(len(train))]
    test["note"] = "<b>fine</b>"
    test.loc[:39, list(test.columns)] = train.iloc[100:140].to_numpy()
    test["rent"] = test["rent"].astype(float) + 400
    train.loc[train.index[:30], "rent"] = np.nan
    return {"train": train, "test": test.infer_objects()}


@pytest.fixture(scope="module")
def page(sick):
    return render(diagnose_data(sick, target="open", pictures=True, confirm=False), "html")


def test_every_chart_is_whole_and_says_in_words_what_it_shows(page):
    charts = drawings(page)
    assert len(charts) >= 5
    names = [node.get("id") for chart in charts for node in chart.iter() if node.get("id")]
    assert len(names) == len(set(names))
    for chart in charts:
        assert chart.get("role") == "img"
        by_id = {node.get("id"): node.text for node in chart}
        assert all(by_id[name].strip() for name in chart.get("aria-labelledby").split())


def test_classes_gaps_and_columns_with_findings_are_drawn_by_split(page):
    heard = {chart[0].text: chart[1].text for chart in drawings(page)}
    assert "train: 0 " in heard["classes of open"]
    assert heard["missing values by column"].startswith("train: rent 4.3%")
    assert "train: 670 values" in heard["distribution of rent"]
    assert "distribution of size" in heard  # no finding, but one of the first others


def test_a_code_for_missing_values_is_in_the_histogram_that_shows_it(page):
    heard = {chart[0].text: chart for chart in drawings(page)}
    assert "train: 700 values" in heard["distribution of visits"][1].text
    assert "-999" in page


def test_nothing_that_is_masked_in_the_finding_is_whole_in_its_rows(page):
    assert "PRV001" in page
    assert "41******11" in page
    assert CARD not in page
    assert MAIL not in page


def test_values_of_the_data_are_text_and_no_markup(page):
    assert "&lt;b&gt;fine&lt;/b&gt;" in page
    assert "<b>fine</b>" not in page


def test_leaked_rows_are_shown_beside_their_originals(sick):
    frames = {name: frame.drop(columns=["note", "rent"]) for name, frame in sick.items()}
    text = render(diagnose_data(frames, target="open", pictures=True, confirm=False, select=("DAT003",)), "html")
    assert "Rows that belong together" in text
    groups = re.findall(r"<tbody>(.*?)</tbody>", text, re.S)
    for group in groups:
        first, second = ([*re.findall(r"<td[^>]*>(.*?)</td>", row)] for row in re.findall(r"<tr>(.*?)</tr>", group))
        assert (first[0].split()[0], second[0].split()[0]) == ("train", "test")
        assert first[1:] == second[1:]


def test_other_forms_know_nothing_of_the_pictures(sick):
    with_pictures = diagnose_data(sick, target="open", pictures=True, confirm=False, select=("DAT001",))
    without = diagnose_data(sick, target="open", confirm=False, select=("DAT001",))
    assert without.pictures == ()
    assert with_pictures.pictures
    one, two = (json.loads(render(report, "json")) for report in (with_pictures, without))
    assert one.keys() == two.keys()
    assert one["findings"] == two["findings"]


def test_pictures_are_made_where_a_page_is_asked_for_only(tmp_path, monkeypatch):
    from doctor.pictures import making

    asked = []
    monkeypatch.setattr(making, "illustrations", lambda *given: asked.append(given) or ((), ()))
    shops(200, 0).to_csv(tmp_path / "shops.csv", index=False)
    base = ["diagnose", str(tmp_path / "shops.csv"), "--no-confirm", "-q", "--select", "DAT001"]
    CliRunner().invoke(main, [*base, "--output", str(tmp_path / "r.json")])
    assert not asked
    CliRunner().invoke(main, [*base, "--output", str(tmp_path / "r.json"), "--output", str(tmp_path / "r.html")])
    assert len(asked) == 1


def test_a_picture_that_fails_costs_no_diagnosis(sick, monkeypatch):
    from doctor.pictures import tables

    monkeypatch.setattr(tables, "bars", lambda *given: 1 / 0)
    report = diagnose_data(sick, target="open", pictures=True, confirm=False, select=("DAT001",))
    assert [finding.rule for finding in report.findings if finding.location.column == "visits"] == ["DAT001"]
    assert "ZeroDivisionError" in report.notes[-1]


def test_near_duplicate_images_are_thumbnails_in_pairs(tmp_path):
    fixture("images").photos(tmp_path / "photos", "near-leak", each=(40, 16))
    report = diagnose_data(str(tmp_path / "photos"), pictures=True, select=("DAT004",))
    text = render(report, "html")
    shown = pictures(text)
    assert len(shown) == 12
    assert all(max(image.size) <= 112 for image in shown)
    captions = re.findall(r"<figcaption>(\S+?)<br/>(\S+) ·", text)
    assert [split for _, split in captions] == ["test", "train"] * 6
    assert len(text) < 150_000


def test_large_images_become_small_ones(tmp_path):
    g = np.random.default_rng(0)
    for kind in ("cat", "dog"):
        (tmp_path / "big" / kind).mkdir(parents=True)
        for i in range(12):
            noise = g.integers(0, 255, (700, 500, 3), dtype=np.uint8)
            PIL.Image.fromarray(noise).save(tmp_path / "big" / kind / f"{i}.png")
            if i == 0:
                content = (tmp_path / "big" / kind / "0.png").read_bytes()
    for i in range(5):
        (tmp_path / "big" / "dog" / f"copy{i}.png").write_bytes(content)
    text = render(diagnose_data(str(tmp_path / "big"), pictures=True, select=("DAT002",)), "html")
    assert [max(image.size) for image in pictures(text)] == [112] * 10
    assert len(text) < 200_000


def test_recordings_are_waveforms_with_their_transcripts(tmp_path):
    fixture("speech").corpus(tmp_path / "speech", "leak", each=(50, 30))
    text = render(diagnose_data(str(tmp_path / "speech"), pictures=True, select=("DAT003",)), "html")
    waves = [chart for chart in drawings(text) if chart[0].text.startswith("waveform")]
    assert len(waves) >= 6
    assert text.count("<blockquote>") == len(waves)


def test_texts_are_excerpts_without_what_is_personal(tmp_path):
    records = [{"instruction": f"What is {i} times 7?", "output": f"It is {7 * i}, of course."} for i in range(200)]
    for i in range(5):
        records[i]["output"] = f"Write to {MAIL}, pay with {CARD}."
    path = tmp_path / "chat.jsonl"
    path.write_text("\n".join(map(json.dumps, records)))
    text = render(diagnose_data(str(path), pictures=True, select=("PRV001",)), "html")
    assert "instruction: What is 0 times 7? ¶ output: Write to ja******om, pay with 41******11." in text
    assert CARD not in text
    assert MAIL not in text


def test_records_in_memory_are_excerpts_too():
    records = [{"text": f"a sentence of some length, number {i}", "label": i % 2} for i in range(120)]
    report = diagnose_data({"train": records, "test": records[:10]}, pictures=True, select=("DAT003",))
    assert "text: a sentence of some length, number 0" in render(report, "html")
