"""Figures: what is drawn stands inside the drawing, where its value belongs, and touches nothing else."""

import math
import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from divulge.auditing.facts import BANDS, Bars, Card, Curve, Gallery, Histogram, Plot, Point, Scatter, Table, Tile
from divulge.errors import BadInputError
from divulge.metrics.finding import Finding
from divulge.report import alternatives, axes, bars, marks, plot, scatter, svg
from divulge.report.html import drawing

WIDTHS = (svg.WIDE, svg.NARROW)
NUMBER = r"-?\d+(?:\.\d+)?"


def points(path: ET.Element) -> list[tuple[float, float]]:
    """The corners of a path, without those that are written relative to the one before."""
    return [(float(x), float(y)) for x, y in re.findall(rf"[ML]({NUMBER}),({NUMBER})", path.get("d", ""))]


def check(source: str) -> ET.Element:
    """Parse a figure and check that all of it stands inside, and that no two labels overlap."""
    root = ET.fromstring(source)
    _, _, width, height = map(float, root.get("viewBox", "").split())
    boxes = []
    for element in root.iter():
        for name, limit in (("x", width), ("x1", width), ("x2", width), ("cx", width), ("y", height), ("y1", height),
                            ("y2", height), ("cy", height)):  # fmt: skip
            if element.get(name) is not None:
                assert -1 <= float(element.get(name, "")) <= limit + 1, ET.tostring(element)
        if element.tag == "rect":
            assert float(element.get("width", "")) >= 0 <= float(element.get("height", ""))
        if element.tag == "path":
            for x, y in points(element):
                assert -8 <= x <= width + 8, element.get("d")
                assert -8 <= y <= height + 8, element.get("d")
        if element.tag == "text":
            text = "".join(part for part in (element.text, *(child.tail for child in element)) if part)
            size, x, y = svg.width(text), float(element.get("x", "")), float(element.get("y", ""))
            left = x - {"start": 0, "middle": size / 2, "end": size}[element.get("text-anchor", "start")]
            assert left >= -16, text
            assert left + size <= width + 24, text
            boxes.append((left, left + size, y - 9, y + 2, text))
    for index, one in enumerate(boxes):
        for other in boxes[:index]:
            apart = one[1] <= other[0] or other[1] <= one[0] or one[3] <= other[2] or other[3] <= one[2]
            assert apart, (one[4], other[4])
    return root


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("which", ["facts", "hostile"])
def test_figures_stay_inside_and_labels_apart(request, which, width):
    figures = [
        block for section in request.getfixturevalue(which).sections for block in section.blocks
        if isinstance(block, Plot | Bars | Histogram | Scatter)
    ]  # fmt: skip
    assert figures
    for block in figures:
        check(drawing(block, key="f", width=width))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("which", ["facts", "hostile"])
def test_cards_stay_inside_and_labels_apart(request, which, width):
    for card in request.getfixturevalue(which).cards:
        if card.finding:
            check(marks.dot(card, card.finding, key="c", width=width))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("band", range(len(BANDS)))
def test_bands_mark_the_one_that_was_found(band, width):
    root = check(marks.bands(band, key="v", width=width))
    faint = ["faint" in (rect.get("class") or "") for rect in root.iter("rect")]
    assert faint == [index != band for index in range(len(BANDS))]
    assert BANDS[band] in (root.findtext("title") or "")


@settings(max_examples=150, deadline=None)
@given(
    values=st.lists(st.floats(0, 1e6, allow_subnormal=False), min_size=1, max_size=30),
    log=st.booleans(),
    unit=st.sampled_from(["", "%", "nats"]),
    width=st.sampled_from(WIDTHS),
)
def test_any_curve_stays_inside(values, log, unit, width):
    xs = sorted(values)
    block = Plot("t", "x", "y", [Curve("c", xs, values, [0.0] * len(xs), values)], log=log, x_unit=unit, y_unit=unit)
    check(plot.draw(block, key="p", width=width))


@settings(max_examples=100, deadline=None)
@given(low=st.floats(-1e6, 1e6), span=st.floats(0, 1e6), width=st.sampled_from(WIDTHS), unit=st.sampled_from(["", "%"]))
def test_any_card_stays_inside(low, span, width, unit):
    found = Finding("m", low + span / 2, low, low + span, 5, control=Finding("m", low, low - 1, low + span, 5))
    card = Card("weights", "q", "a", found, low + 2 * span, {}, "s", unit=unit)
    check(marks.dot(card, found, key="c", width=width))


@settings(max_examples=60, deadline=None)
@given(ys=st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=12), width=st.sampled_from(WIDTHS))
def test_any_scatter_stays_inside(ys, width):
    found = [
        Point(f"series {i // 3}", f"adversary {i % 3}", x, x - 0.1, x + 0.1, y, y, y) for i, (x, y) in enumerate(ys)
    ]
    check(scatter.draw(Scatter("t", "x", "y", found), key="s", width=width))


def test_values_stand_where_they_belong():
    scale = axes.linear([0.2, 0.9], 100, 500)
    assert (scale.low, scale.high) == (0, 1)
    assert [scale.at(value) for value in (0, 0.5, 1, 2)] == [100, 300, 500, 500]
    scale = axes.logarithmic([1e-4, 0.03, 1], 0, 400)
    assert [round(scale.at(value), 6) for value in (1e-4, 1e-2, 1)] == [0, 200, 400]


@pytest.mark.parametrize(
    ("values", "log", "unit", "expected"),
    [
        ([0, 1], False, "%", ["0 %", "20 %", "40 %", "60 %", "80 %", "100 %"]),
        ([0, 25_000], False, "", ["0", "5,000", "10,000", "15,000", "20,000", "25,000"]),
        ([-6, 9], False, "", ["−10", "−5", "0", "5", "10"]),
        ([1e-5, 1], True, "%", ["0.001 %", "0.01 %", "0.1 %", "1 %", "10 %", "100 %"]),
        ([1e-4, 1], True, "", ["10⁻⁴", "0.001", "0.01", "0.1", "1"]),
        ([0, 0.004], False, "%", ["0 %", "0.1 %", "0.2 %", "0.3 %", "0.4 %"]),
        ([5, 5], False, "", ["0", "1", "2", "3", "4", "5"]),
    ],
)
def test_ticks_are_round_and_readable(values, log, unit, expected):
    scale = (axes.logarithmic if log else axes.linear)(values, 0, 500, unit=unit)
    assert [text.replace("\u202f", " ") for _, text in scale.ticks()] == expected


def test_log_axes_drop_zeros_and_begin_at_the_edge():
    curve = Curve("c", [0.0, 0.0, 0.01, 0.1, 1.0], [0.0, 0.02, 0.05, 0.3, 1.0], role="main")
    root = check(plot.draw(Plot("t", "x", "y", [curve], log=True), key="p"))
    [path] = [element for element in root.iter("path") if element.get("data-label") == "c"]
    low, high, start, end = map(float, (root.get("data-x") or "").split())
    assert (low, high) == (0.01, 1)
    assert [x for x, _ in points(path)] == pytest.approx([start, (start + end) / 2, end], abs=0.1)


def test_log_axes_cut_what_lies_below_them():
    main = Curve("main", [0.01, 1.0], [0.1, 1.0], role="main")
    chance = Curve("chance", [1e-9, 1.0], [1e-9, 1.0], role="chance")
    root = check(plot.draw(Plot("t", "x", "y", [main, chance], log=True), key="p"))
    [path] = [element for element in root.iter("path") if element.get("data-label") == "chance"]
    floor = float((root.get("data-y") or "").split()[2])
    _, _, start, end = map(float, (root.get("data-x") or "").split())
    assert points(path)[0] == pytest.approx(((start + end) / 2, floor), abs=0.1)  # a tenth of x from 0.01 to 1


def test_a_curve_that_is_zero_everywhere_draws_no_line():
    block = Plot("t", "x", "y", [Curve("c", [0.1, 1.0], [0.0, 0.0])], log=True)
    assert not list(check(plot.draw(block, key="p")).iter("path"))


def test_a_bound_shades_the_region_above_it():
    block = Plot("t", "x", "y", [Curve("b", [0.0, 1.0], [0.2, 1.0], role="bound"), Curve("c", [0.0, 1.0], [0.0, 1.0])])
    root = check(plot.draw(block, key="p"))
    [region] = [element for element in root.iter("path") if element.get("class") == "forbidden"]
    top = float((root.get("data-y") or "").split()[3])
    assert min(y for _, y in points(region)) == pytest.approx(top, abs=0.1)
    line = points(next(element for element in root.iter("path") if element.get("data-label") == "b"))
    assert set(line) <= set(points(region))


def test_thinning_keeps_the_ends_and_the_shape():
    line = [(index / 100, math.sin(index / 300)) for index in range(3000)]
    kept = svg.thin(line)
    assert kept[0] == line[0]
    assert kept[-1] == line[-1]
    assert len(kept) < 60


def test_bars_start_at_their_reference_and_end_at_their_value():
    block = Bars("t", "", ["a", "b"], [0.7, 0.45], [0.6, 0.4], [0.8, 0.5], [5, 5], reference=0.5)
    root = check(bars.draw(block, key="b"))
    line = next(element for element in root.iter("line") if element.get("class") == "reference")
    above, below = root.iter("rect")
    base = float(line.get("x1", ""))
    assert float(above.get("x", "")) == pytest.approx(base, abs=0.02)
    assert float(below.get("x", "")) + float(below.get("width", "")) == pytest.approx(base, abs=0.02)
    assert float(above.get("width", "")) == pytest.approx(4 * float(below.get("width", "")), abs=0.1)
    assert (above.get("class"), below.get("class")) == ("bar above", "bar")


def test_many_bars_are_cut_to_the_highest():
    values = [index / 100 for index in range(100)]
    block = Bars("t", "", [f"c{i}" for i in range(100)], values, values, values, [1] * 100)
    assert bars.shown(block) == list(range(99, 75, -1))
    assert len(alternatives.table(block).rows) == 100


def test_the_front_is_judged_by_the_worst_adversary():
    found = [
        Point(name, adversary, x, x, x, y, y, y)
        for name, x, worst in [
            ("none", 0.9, 0.9),
            ("fools the blind", 0.9, 0.91),
            ("good", 0.8, 0.6),
            ("bad", 0.7, 0.7),
        ]
        for adversary, y in (("blind", 0.5), ("oracle", worst))
    ]
    assert scatter.front(Scatter("t", "x", "y", found)) == ["good", "none"]


def test_tables_hold_the_values_of_figures(facts):
    for section in facts.sections:
        for block in section.blocks:
            if isinstance(block, Plot):
                table = alternatives.table(block)
                assert {row[0] for row in table.rows} == {curve.label for curve in block.curves}
                assert len(table.rows) <= alternatives.ROWS * len(block.curves)
            elif isinstance(block, Bars | Scatter):
                assert len(alternatives.table(block).rows) == len(
                    getattr(block, "labels", getattr(block, "points", []))
                )
            elif isinstance(block, Histogram):
                columns = list(zip(*alternatives.table(block).rows, strict=True))
                assert [list(column) for column in columns[1:]] == list(block.groups.values())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Curve("c", [1.0], []), "one length, got x 1, y 0"),
        (lambda: Curve("c", [1.0], [1.0], [0.0], []), "one length"),
        (lambda: Curve("c", [1.0], [math.nan]), "finite numbers, got nan at place 1"),
        (lambda: Bars("b", "", ["a"], [1.0], [1.0], [], [1]), "high 0"),
        (lambda: Bars("b", "", ["a"], [math.inf], [1.0], [1.0], [1]), "finite"),
        (lambda: Histogram("h", "x", [0.0, 1.0], {"a": [1, 2]}), "bins between edges 1, a 2"),
        (lambda: Histogram("h", "x", [0.0, 0.0], {"a": [1]}), "rising edges"),
        (lambda: Gallery("g", ["one"], [Tile("", ["a", "b"])]), "at most 1 images"),
        (lambda: Table("t", ["a"], [[1, 2]]), "columns 1, row 2"),
        (lambda: Table("t", ["a"], [[math.nan]]), "finite"),
        (lambda: Point("s", "l", *([math.nan] * 6)), "finite"),
        (lambda: Card("weights", "q", "a", Finding("AUC", math.nan, 0, 1, 5), 1.0, {}, ""), "card 'q'"),
    ],
)
def test_bad_blocks_are_refused(make, message):
    with pytest.raises(BadInputError, match=message):
        make()
