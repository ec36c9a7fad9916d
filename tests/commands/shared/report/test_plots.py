"""Curves as SVG, read back from the coordinates that are drawn."""

import re
import xml.etree.ElementTree as ElementTree

from cnctl.commands.shared.report.plots import HEIGHT, ROW, WIDTH, Dots, plot

SVG = "{http://www.w3.org/2000/svg}"


def test_curves_share_their_axes_and_marks_stand_at_their_steps() -> None:
    curves = {"a": [(0, 0.0), (50, 1.0), (100, 0.5)], "b < c": [(0, 0.25), (100, 0.0)]}
    drawn = ElementTree.fromstring(plot(curves, marks={"here": 25}))
    lines = [str(line.get("points")).strip() for line in drawn.iter(f"{SVG}polyline")]
    assert lines == [
        f"0.0,{HEIGHT:.1f} {WIDTH / 2},0.0 {WIDTH:.1f},{HEIGHT / 2}",
        f"0.0,{HEIGHT * 0.75} {WIDTH:.1f},{HEIGHT:.1f}",
    ]
    (mark,) = drawn.iter(f"{SVG}path")
    assert str(mark.get("d")).startswith(f"M{WIDTH / 4} ")
    said = [text.text for text in drawn.iter(f"{SVG}text")]
    assert said == ["a", "b < c", "here", "0", "100", "step", "1", "0"]


def test_a_curve_alone_goes_without_its_name() -> None:
    drawn = ElementTree.fromstring(plot({"a": [(0, 2.0), (1, 2.0)]}))
    assert "a" not in [text.text for text in drawn.iter(f"{SVG}text")]


def test_dots_stand_in_rows_over_one_axis_with_their_intervals() -> None:
    rows = {"a": Dots([0.0, 1.0], (0.25, 0.5, 0.75)), "<b>": Dots([0.5], (0.5, 0.5, 0.5))}
    drawn = ElementTree.fromstring(plot(rows, x_name="ssim"))
    dots = [(dot.get("cx"), dot.get("cy")) for dot in drawn.iter(f"{SVG}circle")]
    assert dots == [("0.0", "0.0"), (f"{WIDTH:.1f}", "0.0"), (f"{WIDTH / 2}", f"{ROW:.1f}")]
    interval, _ = (str(path.get("d")) for path in drawn.iter(f"{SVG}path"))
    assert interval.startswith(f"M{WIDTH / 4} 0.0H{WIDTH * 3 / 4}M{WIDTH / 2} ")
    assert [text.text for text in drawn.iter(f"{SVG}text")] == ["a", "<b>", "0", "1", "ssim"]


def test_an_interval_that_is_wider_than_the_values_stays_inside() -> None:
    drawn = ElementTree.fromstring(plot({"a": Dots([4.0, 6.0], (0.0, 5.0, 10.0))}, x_name="F1"))
    (interval,) = (str(path.get("d")) for path in drawn.iter(f"{SVG}path"))
    assert interval.startswith(f"M0.0 0.0H{WIDTH:.1f}M{WIDTH / 2} ")
    assert [text.text for text in drawn.iter(f"{SVG}text")] == ["a", "0", "10", "F1"]


def test_names_of_curves_that_end_together_do_not_overlap() -> None:
    ends = {"a": 9.0, "b": 10.0, "c": 9.9}
    drawn = plot({name: [(0, 0), (1, end)] for name, end in ends.items()})
    found = re.findall(r'y="([-.\d]+)" text-anchor="end" fill="#\w+">(\w)<', drawn)
    heights = {name: float(y) for y, name in found}
    assert sorted(heights, key=heights.__getitem__) == ["b", "c", "a"]
    assert heights["c"] - heights["b"] >= 12
    assert heights["a"] - heights["c"] >= 12
