"""The page that an engineer sends to a colleague: complete in itself, and safe whatever the layers are called."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import lru_cache
from xml.etree import ElementTree

import msgspec
import numpy as np
import pytest
from detection import models, recording

from layerwatch.evaluation.conditions import Condition
from layerwatch.evaluation.report.canvas import TimeAxis, ValueAxis, lanes, path
from layerwatch.evaluation.report.page import page_of
from layerwatch.evaluation.run import Evaluation, evaluate
from layerwatch.recording.recording import Recording
from layerwatch.schemas.engines import ProfileLayers

NAME = "resnet50-h200"


def evaluated(made: Recording, condition: Condition = Condition()) -> Evaluation:  # noqa: B008
    return evaluate(made, condition, models())


@lru_cache(maxsize=1)
def page() -> str:
    return page_of([evaluated(recording(NAME))])


def picture(html: str) -> ElementTree.Element:
    (svg,) = re.findall(r"<svg.*?</svg>", html, re.DOTALL)
    return ElementTree.fromstring(svg)


def test_the_page_loads_nothing() -> None:
    assert not re.search(r"<script|<link|<img|<iframe|\bsrc=|url\(|@import|https?:", page())


def test_every_alert_is_drawn_told_and_linked() -> None:
    html = page()
    targets = set(re.findall(r'<article id="([^"]+)"', html))
    alerts = evaluated(recording(NAME)).judgement.found
    assert len(targets) == len(alerts) > 0
    assert targets == set(re.findall(r'href="#([^"]+)"', html))
    assert html.count('class="alert ') == len(alerts)
    assert all(found.cause in html for found in alerts)


def test_phases_are_shaded_and_named() -> None:
    boxes = [box for box in picture(page()).iter("rect") if box.get("class", "").startswith("phase")]
    assert [box.get("class") for box in boxes].count("phase fault") == 6
    assert "cotenant_burst" in {text.text for text in picture(page()).iter("text")}
    assert all(float(box.get("width", "-1")) > 0 for box in boxes)


def test_names_from_outside_stay_text() -> None:
    made = recording(NAME)
    hostile = "<script>alert('1')</script>\"&"

    def renamed(profile: ProfileLayers) -> ProfileLayers:
        layers = [msgspec.structs.replace(one, name=hostile + one.name, group="") for one in profile.layers]
        return msgspec.structs.replace(profile, layers=layers)

    manifests = [
        msgspec.structs.replace(manifest, profiles=[renamed(profile) for profile in manifest.profiles])
        for manifest in made.manifests
    ]
    html = page_of([evaluated(replace(made, name=hostile, manifests=manifests))])
    assert "<script" not in html
    assert "&lt;script&gt;alert(" in html
    picture(html)


def test_a_recording_without_phases_or_counters_or_layers_has_a_page_too() -> None:
    made = recording(NAME)
    bare = [msgspec.structs.replace(batch, layers=[], counters=b"") for batch in made]
    html = page_of([evaluated(replace(made, batches=bare, phases=[]))])
    assert "Verdicts" not in html
    assert "Shaded" not in html
    labels = [text.text for text in picture(html).iter("text")]
    assert "end to end" in labels
    assert "sum of layers" not in labels


def test_the_same_recording_under_two_conditions_has_anchors_of_its_own() -> None:
    made = recording(NAME)
    html = page_of([evaluated(made), evaluated(made, Condition(counters=False))])
    anchors = re.findall(r'<article id="([^"]+)"', html)
    assert len(anchors) == len(set(anchors))


@pytest.mark.parametrize("length_s", [0.01, 7.0, 600.0, 90000.0])
def test_a_time_axis_has_a_handful_of_ticks(length_s: float) -> None:
    ticks = TimeAxis(length_s).ticks()
    assert 5 <= len(ticks) <= 12
    assert ticks[-1] <= length_s * 1.0001


def test_a_line_is_interrupted_where_nothing_ran() -> None:
    axis = ValueAxis(1.0, 10.0, 0.0, 100.0, log=True)
    drawn = path(TimeAxis(4.0), axis, np.arange(4.0), np.array([1.0, 2.0, np.nan, 3.0]), "first")
    assert drawn.count("M") == 2
    assert axis.y(10.0) == 0.0
    assert axis.y(1.0) == 100.0


def test_alerts_that_overlap_get_lanes_of_their_own() -> None:
    assert lanes([(0, 10), (5, 15), (11, 20), (16, 30)]) == [0, 1, 0, 1]
