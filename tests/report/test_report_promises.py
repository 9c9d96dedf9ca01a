"""The picture of a study under differential privacy, and the page that shows it."""

import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from divulge.report import promises
from divulge.report.results import write_page
from divulge.studies import Results, Row

SVG = "{http://www.w3.org/2000/svg}"
LEVELS = {
    "no privacy": (None, None, 0.97, 66.0),
    "epsilon 100": (99.9, 0.999, 0.82, 63.0),
    "epsilon 2": (2.0, 0.64, 0.56, 12.0),
}


def rows():
    made = []
    for name, (epsilon, most, area, right) in LEVELS.items():
        made.append(Row(name, "test accuracy", "%", None, right, right - 3, right + 3, 800, None, None))
        if epsilon:
            made.append(Row(name, "epsilon", "1", None, epsilon, epsilon, epsilon, 2000, None, None))
            made.append(Row(name, "largest AUC", "1", None, most, most, most, 2000, None, None))
        for attack, loss in (("lira", 0.0), ("loss", 0.03)):
            value = area - loss
            made.append(Row(f"{name}, {attack}", "AUC", "1", None, value, value - 0.02, value + 0.02, 800, 0.5, None))
    return made


RESULTS = Results("dp-membership", "quick", "divulge run dp-membership", None, {}, 60.0, rows())


@pytest.fixture(scope="module")
def root():
    drawn = promises.figure(RESULTS)
    assert drawn is not None
    return ET.fromstring(drawn.svg)


def ends(path):
    return [(float(x), float(y)) for x, y in re.findall(r"[ML](-?[\d.]+),(-?[\d.]+)", path.get("d"))]


def by_class(root, kind):
    return [element for element in root.iter() if element.get("class") == kind]


def test_the_strongest_attack_stands_below_the_promise_with_its_control(root):
    (limit,) = (ends(path) for path in by_class(root, "curve bound"))
    leakage, accuracy = (ends(path) for path in by_class(root, "curve main"))
    assert [x for x, _ in leakage] == [x for x, _ in limit], "levels with an epsilon, from small to large"
    assert all(low > high for (_, low), (_, high) in zip(leakage, limit, strict=True)), "y grows downwards"
    assert len(by_class(root, "dot main")) == 2 * 3 + 1, "three levels a panel, and the legend"
    assert len(by_class(root, "dot control")) == 3 + 1
    assert accuracy[0][1] > accuracy[1][1]


def test_values_stand_where_they_belong(root):
    spots = [(float(dot.get("cx")), float(dot.get("cy"))) for dot in by_class(root, "dot main")[:3]]
    (plain, top), (large, middle), (small, bottom) = spots
    assert small < large < plain
    assert top < middle < bottom
    share = (bottom - middle) / (bottom - top)
    assert share == pytest.approx((0.82 - 0.56) / (0.97 - 0.56), abs=0.01)
    tall = [abs(a[1] - b[1]) for a, b in (ends(path) for path in by_class(root, "interval")[:3])]
    assert tall == pytest.approx([(bottom - top) * 0.04 / 0.41] * 3, abs=0.3)


def test_the_region_above_the_promise_is_shaded(root):
    (limit,) = (ends(path) for path in by_class(root, "curve bound"))
    region = ends(next(path for path in by_class(root, "forbidden") if path.tag == f"{SVG}path"))
    assert set(limit) <= set(region)
    assert min(y for _, y in region) <= min(y for _, y in limit)


def test_all_of_it_stands_inside_and_is_told_in_words(root):
    _, _, width, height = map(float, root.get("viewBox").split())
    for path in root.iter(f"{SVG}path"):
        assert all(0 <= x <= width and 0 <= y <= height for x, y in ends(path))
    told = root.findtext(f"{SVG}desc")
    assert "epsilon 2: AUC 0.56 of at most 0.64, test accuracy 12\u202f%." in told
    assert "no privacy: AUC 0.97, test accuracy 66\u202f%." in told
    assert "href" not in ET.tostring(root, encoding="unicode")


@pytest.mark.parametrize("metric", ["epsilon", "test accuracy", "AUC"])
def test_rows_without_promise_measurement_or_accuracy_give_no_figure(metric):
    left = [row for row in RESULTS.rows if row.metric != metric]
    assert promises.figure(replace(RESULTS, rows=left)) is None


def test_one_level_is_enough():
    left = [row for row in RESULTS.rows if row.row.startswith("epsilon 2")]
    assert promises.figure(replace(RESULTS, rows=left)) is not None


def test_the_page_links_the_figure_with_words_in_its_stead(tmp_path):
    write_page([RESULTS], tmp_path / "page.md")
    page = (tmp_path / "page.md").read_text(encoding="utf-8")
    (alternative, place) = re.search(r"!\[(.*)\]\((.*)\)", page).groups()
    assert place == "figures/dp-membership.quick.svg"
    assert ET.fromstring((tmp_path / place).read_text(encoding="utf-8")).tag == f"{SVG}svg"
    assert "epsilon 100: AUC 0.82 of at most 0.999" in alternative
    assert "| epsilon 2 | epsilon |" in page


@pytest.mark.parametrize("change", [{"study": "membership-cifar10"}, {"study": "gone"}, {"scale": "gone"}])
def test_other_studies_have_tables_only(tmp_path, change):
    write_page([replace(RESULTS, **change)], tmp_path / "page.md")
    assert [path.name for path in tmp_path.iterdir()] == ["page.md"]
    assert "![" not in (tmp_path / "page.md").read_text(encoding="utf-8")
