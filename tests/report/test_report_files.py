"""Reports on disk, in the terminal and in a notebook."""

import csv
import dataclasses
import html
import io
import json
import re

import pytest
from report_specimens import HOSTILE, RECORDS
from rich.console import Console

from divulge.auditing.facts import Verdict
from divulge.errors import BadInputError, StoreError
from divulge.metrics.finding import Finding
from divulge.report import Report, export, words, writable


def test_a_page_has_its_facts_beside_it(facts, tmp_path):
    page = Report(facts).save(tmp_path / "deep" / "audit.html")
    assert sorted(path.name for path in page.parent.iterdir()) == ["audit.html", "audit.json"]
    assert page.read_text(encoding="utf-8") == Report(facts).html()


def test_a_folder_gets_page_facts_and_records(facts, tmp_path):
    page = Report(facts).save(tmp_path / "report")
    assert page == tmp_path / "report" / "report.html"
    assert sorted(path.name for path in page.parent.iterdir()) == ["records.csv", "report.html", "report.json"]
    with (tmp_path / "report" / "records.csv").open(encoding="utf-8-sig", newline="") as file:
        assert len(list(csv.DictReader(file))) == RECORDS
    assert json.loads((tmp_path / "report" / "report.json").read_text(encoding="utf-8"))["schema"] == facts.schema


def test_saving_again_replaces_the_report(facts, tmp_path):
    Report(facts).save(tmp_path)
    Report(dataclasses.replace(facts, title="another")).save(tmp_path)
    assert Report.read(tmp_path).facts.title == "another"
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".tmp"]


@pytest.mark.parametrize("place", [lambda folder: folder, lambda folder: folder / "report.json"])
def test_what_was_saved_is_read_back(facts, tmp_path, place):
    Report(facts).save(tmp_path)
    report = Report.read(place(tmp_path))
    assert report.facts == facts
    assert report.html() == Report(facts).html()


def test_names_that_no_file_can_hold_are_marked(hostile, tmp_path):
    Report(hostile).save(tmp_path)
    kept = Report.read(tmp_path).facts
    assert kept.references == [name.replace("\udcff\udcfe", "??") for name in HOSTILE]


def test_saving_into_a_file_as_a_folder_is_refused(facts, tmp_path):
    (tmp_path / "file").write_text("kept")
    with pytest.raises(StoreError, match=r"cannot write .*Choose a folder that you can write to"):
        Report(facts).save(tmp_path / "file" / "report.html")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_places_are_checked_before_an_audit(tmp_path):
    (tmp_path / "file").write_text("kept")
    (tmp_path / "old.html").write_text("replaced later")
    for place in (tmp_path, tmp_path / "new" / "folder", tmp_path / "new.html", tmp_path / "old.html"):
        writable(place)
    for place in (tmp_path / "file", tmp_path / "file" / "report.html"):
        with pytest.raises(StoreError, match=r"file' is not a folder\. Choose"):
            writable(place)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "old.html"]


def test_folders_may_have_dots(facts, tmp_path):
    assert Report(facts).save(tmp_path / "v1.2") == tmp_path / "v1.2" / "report.html"


def test_a_failed_write_leaves_the_old_report(facts, tmp_path):
    (tmp_path / "report.html").mkdir()
    with pytest.raises(StoreError, match=r"report\.html"):
        Report(facts).save(tmp_path)
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".tmp"]


def test_another_kind_of_file_is_refused(facts, tmp_path):
    with pytest.raises(BadInputError, match=r"ends in \.html or a folder.*print it"):
        Report(facts).save(tmp_path / "report.pdf")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "report.json"),
        ("no json", "expected a report.json"),
        ("[]", "expected schema 'divulge.report/2', got 'list'"),
        ('{"schema": "divulge.report/0"}', "got 'divulge.report/0'. Run the audit again"),
        ('{"schema": "divulge.report/1", "titel": ""}', "no setting 'titel'; the nearest is 'title'"),
    ],
)
def test_what_is_no_report_is_refused(tmp_path, text, message):
    if text is not None:
        (tmp_path / "report.json").write_text(text)
    with pytest.raises(BadInputError, match=re.escape(message)):
        Report.read(tmp_path)


def test_a_report_with_a_wrong_band_is_refused(facts, tmp_path):
    written = json.loads(facts.to_json())
    written["verdict"]["band"] = 7
    (tmp_path / "report.json").write_text(json.dumps(written))
    with pytest.raises(BadInputError, match="band from 0 to 4, got 7"):
        Report.read(tmp_path)


@pytest.mark.parametrize("which", ["facts", "hostile"])
def test_the_terminal_gets_ten_lines(request, which):
    text = str(Report(request.getfixturevalue(which)))
    assert len(text.splitlines()) <= 10
    assert words.clean(text) == text


def test_the_terminal_tells_the_story(facts):
    text = str(Report(facts))
    told = (
        facts.title,
        "strong",
        facts.verdict.sentence,
        "31\u202f%",
        "did not run",
        facts.verdict.advice,
        facts.promise,
    )
    for part in told:
        assert part in text


def test_many_cards_still_fit(facts):
    text = str(Report(dataclasses.replace(facts, cards=facts.cards * 5)))
    assert len(text.splitlines()) == 10
    assert "and 13 more in the report" in text


def test_rich_does_not_read_names_as_markup(facts):
    out = io.StringIO()
    marked = dataclasses.replace(facts, title="[red]name[/red]", verdict=Verdict(0, "[bold]", "[/bold]", "[x]"))
    Console(file=out, width=200).print(Report(marked))
    for part in ("[red]name[/red]", "[bold]", "[/bold]", "[x]"):
        assert part in out.getvalue()


def test_a_notebook_gets_the_page_in_a_frame(facts):
    source = Report(facts)._repr_html_()
    found = re.fullmatch(r'<iframe [^>]*sandbox="allow-scripts allow-downloads" srcdoc="([^"]*)"></iframe>', source)
    assert found
    assert html.unescape(found[1]) == Report(facts).html()


def test_spreadsheets_run_no_cell():
    names = [
        "=1+1",
        "+1",
        "-1",
        "@SUM(A1)",
        " =1",
        "\t=1",
        "\r=1",
        "＝1",
        "\ufeff=1",
        "fine",
        "a=b",
        'with "quotes", commas',
    ]
    text, count = export.to_csv({"=name": names, "value": [-1.5] * len(names)})
    rows = list(csv.reader(io.StringIO(text)))
    assert count == len(names)
    assert rows[0] == ["'=name", "value"]
    assert all(row[1] == "-1.5" for row in rows[1:])
    for name, (cell, _) in zip(names, rows[1:], strict=True):
        assert cell == (words.clean(name) if name[0] in "faw\r" else f"'{words.clean(name)}")
        assert not cell.startswith(("=", "+", "-", "@", "\t", "\r", "＝"))


def test_csv_stops_at_its_limit():
    records = {"record": [str(i) for i in range(1000)], "score": [float(i) for i in range(1000)]}
    text, count = export.to_csv(records, limit=200)
    assert len(text) <= 200 < len(text) + 12
    assert text.splitlines()[1] == "999,999.0"
    assert count == len(text.splitlines()) - 1


def test_records_of_unequal_length_are_refused(facts):
    with pytest.raises(BadInputError, match="records: expected lists of one length, got a 1, b 2"):
        dataclasses.replace(facts, records={"a": [1], "b": [1, 2]})


def test_numbers_that_are_none_are_refused(facts):
    with pytest.raises(BadInputError, match="records, column 'score': expected finite numbers, got nan"):
        dataclasses.replace(facts, records={"score": [float("nan")]})


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        (0.0, "%", "0 %"), (1.0, "%", "100 %"), (-0.25, "%", "−25 %"), (0.99999, "%", "100 %"),
        (5e-7, "%", "0.00005 %"),
        (0.0, "", "0"), (12_500, "", "12,500"), (3.0, "", "3"), (-0.0004, "", "−4 × 10⁻⁴"), (9.99e-4, "", "10⁻³"),
        (0.7517, "", "0.752"), (1e9, "", "10⁹"), (12.0, "dB", "12 dB"),
    ],
)  # fmt: skip
def test_numbers_are_written_for_people(value, unit, expected):
    assert words.measure(value, unit).replace("\u202f", " ").replace("\u00a0", " ") == expected


def test_findings_are_written_with_interval_and_control():
    found = Finding("TPR", 0.31, 0.29, 0.33, 100, control=Finding("TPR", 0.002, 0.001, 0.003, 100))
    assert words.finding(found, "%").replace("\u202f", " ") == "31 % (29 to 33 %), control 0.2 %"
