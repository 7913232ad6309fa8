"""The dashboards in the folder are those that the code builds."""

from __future__ import annotations

import json

import dashboards
import pytest


def test_the_files_are_what_the_code_builds() -> None:
    for name, content in dashboards.built().items():
        assert (dashboards.HERE / name).read_text() == content, "run `make dashboards`"


@pytest.mark.parametrize("name", ["services.json", "itself.json"])
def test_panels_say_how_to_read_them_and_do_not_lie_upon_one_another(name: str) -> None:
    board = json.loads(dashboards.built()[name])
    places: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        assert panel["description"]
        assert panel["targets"]
        grid = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(grid["x"], grid["x"] + grid["w"])
            for y in range(grid["y"], grid["y"] + grid["h"])
        }
        assert max(x for x, _ in cells) < 24
        assert not places & cells
        places |= cells
