"""The page of an audit of gradients in a real browser: pictures side by side, any class name, any window."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from report_specimens import HOSTILE
from test_report_browser import CHROMIUM, FLAGS, LABELS, VISIBLE_TEXT, Visit, contrast

import divulge
from divulge.auditing.facts import BANDS, Gallery
from divulge.auditing.gradients import audit_plan
from divulge.data import Dataset
from divulge.models.mlp import MLP
from divulge.report import Report
from divulge.runs.engines import LocalEngine

pytestmark = pytest.mark.browser

NAMES = (*HOSTILE[:2], HOSTILE[3], *HOSTILE[5:7])


def records(shape, names, count=80):
    generator = torch.Generator().manual_seed(0)
    return Dataset(torch.rand(count, *shape, generator=generator), torch.arange(count) % len(names), classes=names)


def audited(shape, names, folder, **changes) -> Report:
    data = records(shape, names)
    model = MLP((24,)).build(shape, len(names), seed=0)
    means = {"budget": "quick", "engine": LocalEngine(1), "run_dir": folder / "run", "batch_sizes": (1, 2)}
    return divulge.audit(model, members=data[:50], **(means | changes))


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
def reports(tmp_path_factory) -> dict[str, Report]:
    folder = tmp_path_factory.mktemp("gradients")
    brief = audit_plan.Plan("quick", records=4, tried=4, steps=3, restarts=1, starting=3, samples=500)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(audit_plan.PLANS, "quick", brief)
        return {
            "pictures": audited(
                (1, 8, 8),
                NAMES,
                folder,
                access="gradients",
                defenses=["gradient-noise", "gradient-sign"],
                name=NAMES[1],
            ),
            "both": audited(
                (12,),
                ("no", "yes"),
                folder,
                access="gradients,posteriors",
                nonmembers=records((12,), ("no", "yes"))[50:],
            ),
        }


@pytest.fixture(scope="module")
def files(reports, tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    return {name: report.save(folder / f"{name}.html") for name, report in reports.items()}


@pytest.mark.parametrize("which", ["pictures", "both"])
def test_the_page_needs_nothing_else_and_is_light(browser, files, which):
    with Visit(browser, files[which]) as visit:
        visit.page.mouse.wheel(0, 50_000)
        visit.page.wait_for_timeout(100)
        assert [url for url in visit.requests if not url.startswith("data:")] == [files[which].as_uri()]
        assert visit.complaints == []
    assert files[which].stat().st_size < 1_000_000


@pytest.mark.parametrize(("which", "width"), [("pictures", 1200), ("pictures", 360), ("both", 360)])
def test_the_page_fits_its_window_and_can_be_read(browser, files, which, width):
    for scheme in ("light", "dark"):
        with Visit(browser, files[which], width=width, color_scheme=scheme) as visit:
            visit.page.evaluate("document.querySelectorAll('details').forEach((one) => one.open = true)")
            assert visit.page.evaluate("document.documentElement.scrollWidth") == width
            texts = visit.page.evaluate(VISIBLE_TEXT)
            assert [text for text in texts if text["size"] < 11] == []
            assert [text for text in texts if contrast(text["color"], text["ground"]) < 4.5] == []


@pytest.mark.parametrize("width", [1200, 360])
def test_labels_of_figures_do_not_overlap(browser, files, width):
    with Visit(browser, files["pictures"], width=width) as visit:
        figures = visit.page.evaluate(LABELS)
    for labels in figures:
        for index, one in enumerate(labels):
            for other in labels[:index]:
                across = one["left"] < other["right"] and other["left"] < one["right"]
                assert not (across and one["top"] < other["bottom"] and other["top"] < one["bottom"]), (one, other)


@pytest.mark.parametrize("width", [1200, 360])
def test_originals_stand_above_what_was_rebuilt_of_them(browser, files, reports, width):
    facts = reports["pictures"].facts
    galleries = [block for one in facts.sections for block in one.blocks if isinstance(block, Gallery)]
    assert len(galleries) == 3, "a sheet for each batch size, and one record under each defense"
    with Visit(browser, files["pictures"], width=width) as visit:
        sheets = visit.page.locator("figure.sheet")
        assert sheets.count() == 3
        for index, gallery in enumerate(galleries):
            sheet = sheets.nth(index)
            assert sheet.locator("ol.rows li").all_inner_texts() == gallery.rows
            boxes = sheet.locator("ul > li").evaluate_all(
                "(tiles) => tiles.map((tile) => [...tile.querySelectorAll('img')].map((image) => {"
                " const box = image.getBoundingClientRect();"
                " return [image.complete && image.naturalWidth > 0, box.left, box.top, box.width, box.height]; }))"
            )
            assert [len(tile) for tile in boxes] == [len(tile.images) for tile in gallery.tiles]
            for tile in boxes:
                assert all(image[0] and min(image[3:]) > 60 for image in tile)
                assert len({image[1] for image in tile}) == 1, "one below the other"
                assert [image[2] for image in tile] == sorted(image[2] for image in tile)
        assert "Best" in sheets.first.inner_text()
        assert "Worst" in sheets.first.inner_text()


def test_hostile_names_are_inert(browser, files, reports):
    facts = reports["pictures"].facts
    assert any("<" in name for name in facts.records["class"]), "the names are there"
    with Visit(browser, files["pictures"]) as visit:
        visit.page.wait_for_timeout(200)
        assert visit.complaints == []
        assert visit.page.locator("script").count() == 1
        assert visit.page.locator("img:not([src^='data:image/png;base64,']), svg[onload], [onerror]").count() == 0
        assert visit.page.locator("iframe, object, embed, form, link, base").count() == 0
        assert "\u202e" not in visit.page.content()


def test_each_release_has_its_own_verdict(browser, files, reports):
    cards = reports["both"].facts.cards
    with Visit(browser, files["both"]) as visit:
        shown = visit.page.locator("article.card .found").all_inner_texts()
        assert shown == [BANDS[card.band] for card in cards if card.band is not None]
        assert visit.page.locator("article.card .next").count() == 2
    with Visit(browser, files["pictures"]) as visit:
        assert visit.page.locator("article.card .found").count() == 0, "the first screen has it already"


def test_the_page_is_read_without_script(browser, files):
    with Visit(browser, files["pictures"], java_script_enabled=False) as visit:
        text = " ".join(visit.page.locator("main").inner_text().split())
        for part in ("What was rebuilt", "Where it leaks", "Defenses of gradients", "What to try next", "honest but"):
            assert part in text
