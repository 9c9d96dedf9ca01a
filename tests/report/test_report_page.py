"""The page as a parser sees it: self-contained, labeled, and deaf to hostile names."""

import base64
import csv
import dataclasses
import hashlib
import io
import itertools
import re
from html.parser import HTMLParser

import pytest
from report_specimens import HOSTILE, RECORDS

from divulge.auditing.facts import Facts, Gallery, Section, Tile
from divulge.errors import BadInputError
from divulge.report import Report
from divulge.report.html import picture
from divulge.report.words import clean

VOID = {"meta", "col", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """Elements with their attributes and text, in order."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.stack: list[str] = []
        self.children: list[list[str]] = []
        self.feed(source)
        self.close()

    def handle_starttag(self, tag, attrs):
        assert len({name for name, _ in attrs}) == len(attrs), f"double attributes in {tag}"
        self.elements.append((tag, dict(attrs)))
        if self.stack and self.stack[-1] == "svg":
            self.children[-1].append(tag)
        if tag not in VOID:
            self.stack.append(tag)
            if tag == "svg":
                self.children.append([])

    def handle_endtag(self, tag):
        assert self.stack, f"</{tag}> closes nothing"
        assert self.stack[-1] == tag, f"</{tag}> closes <{self.stack[-1]}>"
        self.stack.pop()

    def handle_data(self, data):
        self.texts.append((self.stack[-1] if self.stack else "", data))

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    def inside(self, tag):
        return [text for name, text in self.texts if name == tag]


@pytest.fixture(scope="module", params=["facts", "hostile"])
def source(request) -> str:
    return Report(request.getfixturevalue(request.param)).html()


@pytest.fixture(scope="module")
def page(source) -> Page:
    return Page(source)


def test_every_element_is_closed(page):
    assert page.stack == []


def test_nothing_is_loaded_from_elsewhere(page):
    for tag, attributes in page.elements:
        for name in ("src", "href", "srcset", "action", "data", "poster", "xlink:href", "formaction", "ping"):
            value = attributes.get(name)
            if value is not None:
                allowed = {"img": r"data:image/png;base64,[A-Za-z0-9+/=]+", "a": r"#[a-z0-9-]+|data:text/csv;.+"}[tag]
                assert re.fullmatch(allowed, value), (tag, name, value[:60])
    assert {tag for tag, _ in page.elements}.isdisjoint({"link", "iframe", "object", "embed", "base", "form", "image"})


def test_style_sheet_and_script_need_no_network(page):
    for text in page.inside("style") + page.inside("script"):
        assert not re.search(r"url\(|@import|https?://(?!www\.w3\.org/2000/svg)|fetch\(|innerHTML|eval\(", text)


def test_policy_admits_only_this_style_and_script(page):
    policies = [a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy"]
    assert len(policies) == 1
    directives = dict(part.strip().split(" ", 1) for part in policies[0].split(";"))
    assert directives["default-src"] == "'none'"
    assert directives["img-src"] == "data:"
    for tag, directive in (("style", "style-src"), ("script", "script-src")):
        [text] = page.inside(tag)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert directives[directive] == f"'sha256-{digest}'"


def test_no_element_carries_style_or_handlers(page):
    names = {name for _, attributes in page.elements for name in attributes}
    assert not [name for name in names if name.startswith("on") or name == "style"]
    assert len(page.all("script")) == 1


def test_identifiers_are_unique_and_references_resolve(page):
    ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for _, attributes in page.elements:
        for target in (attributes.get("aria-labelledby") or "").split():
            assert target in ids
        if (attributes.get("href") or "").startswith("#"):
            assert attributes["href"][1:] in ids


def test_every_figure_has_a_title_a_description_and_a_role(page):
    drawings = page.all("svg")
    assert len(drawings) == len(page.children) > 10
    for attributes, children in zip(drawings, page.children, strict=True):
        assert attributes["role"] == "img"
        assert children[:2] == ["title", "desc"]
        assert len((attributes["aria-labelledby"] or "").split()) == 2


def test_headings_are_in_order(page):
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_tables_have_captions_and_scopes(page):
    assert len(page.all("table")) == len(page.all("caption"))
    assert {attributes.get("scope") for attributes in page.all("th")} == {"col", "row"}


def test_pictures_have_text(page):
    assert page.all("img")
    for attributes in page.all("img"):
        assert attributes["alt"]
        assert int(attributes["width"] or 0) > 0 < int(attributes["height"] or 0)


def test_language_and_viewport(page):
    assert page.all("html")[0]["lang"] == "en"
    assert any(a.get("name") == "viewport" and "width=device-width" in (a["content"] or "") for a in page.all("meta"))
    assert page.inside("title")[0].strip()


def test_page_is_light(source):
    without_pictures = re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]+", "", source)
    assert len(without_pictures.encode()) < 1_000_000


def test_page_is_utf8_without_control_or_direction_characters(source):
    source.encode("utf-8")
    assert clean(source) == source


def test_hostile_names_are_shown_as_they_are(hostile):
    texts = {text.strip() for _, text in Page(Report(hostile).html()).texts}
    for name in filter(None, HOSTILE):
        assert clean(name).strip() in texts


def test_the_answer_stands_first(facts):
    shown = " ".join("".join(text for _, text in Page(Report(facts).html()).texts).split())
    order = [facts.verdict.sentence, facts.verdict.advice, facts.cards[0].sentence]
    order += ["Did not run.", *[section.answers for section in facts.sections], facts.command]
    places = [shown.index(text) for text in order]
    assert places == sorted(places)


def test_exported_records_are_the_most_exposed_ones(facts):
    [link] = [a for a in Page(Report(facts).html()).all("a") if (a["href"] or "").startswith("data:")]
    assert link["download"] == "records.csv"
    text = base64.b64decode((link["href"] or "").split("base64,")[1]).decode("utf-8-sig")
    rows = list(csv.DictReader(io.StringIO(text)))
    scores = sorted(facts.records["score"], reverse=True)
    assert 1000 < len(rows) < RECORDS
    assert [float(row["score"]) for row in rows] == scores[: len(rows)]


def test_without_records_there_is_no_export(facts):
    page = Page(Report(dataclasses.replace(facts, records={})).html())
    assert not [a for a in page.all("a") if (a["href"] or "").startswith("data:")]


def test_records_without_a_section_get_one(facts):
    sections = [dataclasses.replace(section, exports=False) for section in facts.sections]
    page = Page(Report(dataclasses.replace(facts, sections=sections)).html())
    assert "Every record" in page.inside("h2")


def test_the_barest_facts_make_a_page(facts):
    bare = Facts("", "2025-06-14", "", facts.verdict, [], [], {}, [], [], [], "")
    assert Page(Report(bare).html()).stack == []


@pytest.mark.parametrize(
    "source",
    [
        "https://example.org/a.png",
        "data:image/svg+xml;base64,PHN2Zz4=",
        "data:image/png;base64,PHN2Zz4=",
        "data:image/png;base64,iVBORw0KGgo=",
        'data:image/png;base64,iVBORw0KGgo=" onerror="alert(1)',
        "data:image/png;base64,ü",
        "javascript:alert(1)",
        "",
    ],
)
def test_only_png_is_a_picture(facts, source):
    with pytest.raises(BadInputError, match="expected 'data:image/png;base64,'"):
        picture(source)
    block = Gallery("bad", ["record"], [Tile("", [source])])
    with pytest.raises(BadInputError, match="PNG"):
        Report(dataclasses.replace(facts, sections=[Section("bad", "", [block])])).html()
