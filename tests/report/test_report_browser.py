"""The page in a real browser: offline, readable on a phone, in the dark, on paper and without script."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from divulge.auditing.facts import BANDS
from divulge.report import Report

pytestmark = pytest.mark.browser

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip

VISIBLE_TEXT = """() => {
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    const text = walker.currentNode.textContent.trim();
    if (!text || element.closest("script, style, title, desc, .hidden, .skip") || !element.checkVisibility()) continue;
    const style = getComputedStyle(element);
    const svg = element.closest("svg");
    const scale = svg ? svg.getBoundingClientRect().width / svg.viewBox.baseVal.width : 1;
    let ground = element;
    while (ground && /rgba\\(0, 0, 0, 0\\)|transparent/.test(getComputedStyle(ground).backgroundColor)) {
      ground = ground.parentElement;
    }
    found.push({
      text: text.slice(0, 40),
      size: parseFloat(style.fontSize) * scale,
      color: svg ? style.fill : style.color,
      ground: getComputedStyle(ground || document.documentElement).backgroundColor,
    });
  }
  return found;
}"""

LABELS = """() => [...document.querySelectorAll("svg")].filter((svg) => svg.checkVisibility()).map((svg) =>
  [...svg.querySelectorAll("text")].map((label) => {
    const box = label.getBoundingClientRect();
    return {text: label.textContent, left: box.left, right: box.right, top: box.top + 2, bottom: box.bottom - 2};
  }))"""


def luminance(color: str) -> float:
    """Relative luminance of a CSS color (WCAG 2)."""
    channels = [float(value) / 255 for value in re.findall(r"[\d.]+", color)[:3]]
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.fixture(scope="module")
def browser() -> Iterator:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield started
        started.close()


@pytest.fixture(scope="module")
def files(facts, hostile, tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    return {
        "facts": Report(facts).save(folder / "facts.html"),
        "hostile": Report(hostile).save(folder / "hostile.html"),
    }


class Visit:
    """An open page, and what happened while it was open."""

    def __init__(self, browser, file: Path, *, width: int = 1200, **options) -> None:
        self.context = browser.new_context(viewport={"width": width, "height": 800}, **options)
        self.page = self.context.new_page()
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("dialog", lambda dialog: (self.complaints.append(dialog.message), dialog.dismiss()))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.goto(file.as_uri())

    def __enter__(self) -> "Visit":
        return self

    def __exit__(self, *_) -> None:
        self.context.close()


@pytest.mark.parametrize("which", ["facts", "hostile"])
def test_page_needs_no_network_and_raises_nothing(browser, files, which):
    with Visit(browser, files[which]) as visit:
        visit.page.mouse.wheel(0, 50_000)
        visit.page.wait_for_timeout(100)
        assert [url for url in visit.requests if not url.startswith("data:")] == [files[which].as_uri()]
        assert visit.complaints == []


@pytest.mark.parametrize(("which", "width"), [("facts", 1200), ("hostile", 360)])
def test_pictures_and_figures_are_drawn(browser, files, which, width):
    with Visit(browser, files[which], width=width) as visit:
        pictures = visit.page.evaluate(
            "() => [...document.images].map((i) => [i.complete, i.naturalWidth, i.width, i.height])"
        )
        assert len(pictures) >= 10
        assert all(complete and min(sizes) > 0 for complete, *sizes in pictures)
        figures = visit.page.evaluate("""() => [...document.querySelectorAll("figure:not(.gallery), .verdict")].map(
            (figure) => [...figure.querySelectorAll("svg")].map((svg) => {
              const {width, height} = svg.getBoundingClientRect(); return [width, height]; }))""")
        assert len(figures) >= 6
        for both in figures:
            assert sorted(min(box) > 0 for box in both) == [False, True], "one of the two layouts is shown"
        ink = visit.page.evaluate("""() => [...document.querySelectorAll("path.curve")].filter(
            (path) => path.checkVisibility()).map((path) => path.getTotalLength())""")
        assert ink
        assert min(ink) > 0


@pytest.mark.parametrize(("which", "width"), [("facts", 1200), ("facts", 700), ("facts", 360), ("hostile", 360)])
def test_page_fits_its_window(browser, files, which, width):
    with Visit(browser, files[which], width=width) as visit:
        visit.page.evaluate("document.querySelectorAll('details').forEach((one) => one.open = true)")
        assert visit.page.evaluate("document.documentElement.scrollWidth") == width


@pytest.mark.parametrize(
    ("which", "width", "scheme"),
    [("facts", 1200, "light"), ("facts", 360, "light"), ("facts", 360, "dark"), ("hostile", 360, "dark")],
)
def test_text_is_large_and_dark_enough(browser, files, which, width, scheme):
    with Visit(browser, files[which], width=width, color_scheme=scheme) as visit:
        texts = visit.page.evaluate(VISIBLE_TEXT)
    assert len(texts) > 150
    assert [text for text in texts if text["size"] < 11] == []
    assert [text for text in texts if contrast(text["color"], text["ground"]) < 4.5] == []


def test_dark_mode_is_dark(browser, files):
    grounds = {}
    for scheme in ("light", "dark"):
        with Visit(browser, files["facts"], color_scheme=scheme) as visit:
            grounds[scheme] = visit.page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    assert luminance(grounds["light"]) > 0.8
    assert luminance(grounds["dark"]) < 0.05


@pytest.mark.parametrize("width", [1200, 360])
def test_labels_of_figures_do_not_overlap(browser, files, width):
    with Visit(browser, files["facts"], width=width) as visit:
        figures = visit.page.evaluate(LABELS)
    assert sum(map(len, figures)) > 80
    for labels in figures:
        for index, one in enumerate(labels):
            for other in labels[:index]:
                across = one["left"] < other["right"] and other["left"] < one["right"]
                assert not (across and one["top"] < other["bottom"] and other["top"] < one["bottom"]), (one, other)
            assert 0 <= one["left"] <= one["right"] <= width, one


def test_hostile_names_are_inert(browser, files):
    with Visit(browser, files["hostile"]) as visit:
        visit.page.wait_for_timeout(200)
        visit.page.evaluate("document.querySelectorAll('details').forEach((one) => one.open = true)")
        for button in visit.page.locator("th button").all()[:6]:
            button.click()
        for drawing in visit.page.locator("svg[data-x]:visible").all():
            drawing.hover()
        assert visit.complaints == []
        assert visit.page.locator("script").count() == 1
        assert visit.page.locator("img:not([src^='data:image/png;base64,']), svg[onload], [onerror]").count() == 0
        assert visit.page.locator("iframe, object, embed, form, link, base").count() == 0
        assert "\u202e" not in visit.page.content()
        assert visit.page.title().endswith(f"privacy audit, {BANDS[0]}")
        assert visit.page.get_by_text("<script>alert(1)</script>", exact=True).first.is_visible()


def test_the_policy_holds_where_escaping_would_fail(browser, facts, tmp_path):
    marker = "About 31 of every 100 members"
    attack = (
        '<script>window.hacked = "script"</script><img src=x onerror=\'window.hacked = "handler"\'>'
        '<img src="file:///nowhere.png"><style>main { display: none }</style><svg onload="window.hacked = \'svg\'">'
        '</svg><iframe src="about:blank"></iframe><a id="bad" href="javascript:window.hacked = 1">x</a>'
    )
    page = tmp_path / "broken.html"
    source = Report(facts).html()
    assert marker in source
    page.write_text(source.replace(marker, attack, 1), encoding="utf-8")
    with Visit(browser, page) as visit:
        visit.page.locator("#bad").click()
        visit.page.wait_for_timeout(200)
        assert visit.page.evaluate("window.hacked") is None
        assert visit.page.locator("main").is_visible()
        assert any("Content Security Policy" in text for text in visit.complaints)


def test_page_can_be_read_without_script(browser, files, facts):
    with Visit(browser, files["facts"], width=360, java_script_enabled=False) as visit:
        shown = " ".join(visit.page.locator("main").inner_text().split())
        assert visit.page.locator("th button").count() == 0
        for text in (facts.verdict.sentence, facts.verdict.advice, "Did not run.", facts.command, "Shrinkage variance"):
            assert " ".join(text.split()) in shown
        assert visit.page.locator("svg:visible").count() >= 8
        visit.page.locator("figure summary").first.click()
        assert visit.page.locator("figure details table").first.is_visible()


def test_records_can_be_saved(browser, files):
    with Visit(browser, files["facts"]) as visit:
        with visit.page.expect_download() as download:
            visit.page.get_by_role("link", name=re.compile("as CSV")).click()
        assert download.value.suggested_filename == "records.csv"
        assert Path(download.value.path()).read_text(encoding="utf-8-sig").startswith("record,class,score,member")


def test_tables_sort(browser, files):
    with Visit(browser, files["facts"]) as visit:
        table = visit.page.locator("table.sortable").first
        column = table.locator("tbody tr td:nth-child(2)")
        head = table.locator("thead th:nth-child(2)")
        head.locator("button").click()
        assert column.all_inner_texts() == ["0.597", "0.620", "0.680", "0.731", "0.752"]
        assert head.get_attribute("aria-sort") == "ascending"
        head.locator("button").press("Enter")
        assert column.all_inner_texts() == ["0.752", "0.731", "0.680", "0.620", "0.597"]


def test_values_appear_under_the_pointer(browser, files):
    with Visit(browser, files["facts"]) as visit:
        drawing = visit.page.locator("svg[data-x]:visible").first
        drawing.scroll_into_view_if_needed()
        assert visit.page.locator(".tip:visible").count() == 0
        start, end = map(float, (drawing.get_attribute("data-x") or "").split()[2:4])
        box = drawing.bounding_box()
        scale = box["width"] / 672
        visit.page.mouse.move(box["x"] + scale * (start + 0.4 * (end - start)), box["y"] + box["height"] / 2)
        lines = visit.page.locator(".tip:visible div").all_inner_texts()
        assert lines[0] == "at 0.1 %"
        assert "5.5 % Shrinkage variance, 4 shadow models" in [line.replace("\u00a0", " ") for line in lines]


def test_page_prints(browser, files):
    with Visit(browser, files["facts"], color_scheme="dark") as visit:
        visit.page.emulate_media(media="print", color_scheme="dark")
        assert not visit.page.locator("nav").is_visible()
        assert visit.page.locator("h1").is_visible()
        assert luminance(visit.page.evaluate("getComputedStyle(document.querySelector('h1')).color")) < 0.05
        assert visit.page.pdf().startswith(b"%PDF")


def test_page_moves_only_where_motion_is_welcome(browser, files):
    behavior = "getComputedStyle(document.documentElement).scrollBehavior"
    for motion, expected in (("reduce", "auto"), ("no-preference", "smooth")):
        with Visit(browser, files["facts"], reduced_motion=motion) as visit:
            assert visit.page.evaluate(behavior) == expected
