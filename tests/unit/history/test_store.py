"""The database: each revision once, the newest one shown, positions never apart from their rows."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from history_records import START_S, alert_json, decision_json
from hypothesis import given, settings
from hypothesis import strategies as st

from layerwatch.history.reader import Reader
from layerwatch.history.rows import Revision, alert_row, decision_row
from layerwatch.history.store import Batch, Store
from layerwatch.history.tables import ALERT, DECISION, VERSION
from layerwatch.hosting.log_source import Position
from layerwatch.schemas.errors import ConfigError, InvalidRecord

deliveries = st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 6)), min_size=1, max_size=30)


def status_of(revision: int) -> str:
    return "resolved" if revision % 2 else "firing"


def row(id: str, revision: int) -> Revision:
    opened_s = START_S + 10 - revision
    return alert_row(alert_json(id=id, revision=revision, status=status_of(revision), opened_s=opened_s))


@given(deliveries, st.integers(1, 7))
@settings(deadline=None, max_examples=60)
def test_each_revision_is_there_once_and_the_highest_one_is_current_whatever_the_order(
    keys: list[tuple[str, int]], size: int
) -> None:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "db"
        store, reader = Store(path), Reader(path)
        for start in range(0, len(keys), size):
            store.write(Batch([row(*key) for key in keys[start : start + size]]))
        for id in {id for id, _ in keys}:
            revisions = [json.loads(text)["revision"] for text in reader.revisions(ALERT, id)]
            assert revisions == sorted({revision for other, revision in keys if other == id})
        highest = {id: max(revision for other, revision in keys if other == id) for id, _ in keys}
        for status in ("firing", "resolved"):
            page = reader.page(ALERT, [("status = ?", status)], None, 100)
            found = {(alert["id"], alert["revision"]) for alert in map(json.loads, page.items)}
            assert found == {key for key in highest.items() if status_of(key[1]) == status}
        store.close()


def test_what_was_there_already_is_counted_apart_and_left_as_it_was(tmp_path: Path) -> None:
    store = Store(tmp_path / "db")
    first = store.write(Batch([row("a", 1), row("a", 1), row("a", 2)]))
    assert (first.rows["alert"], first.repeated["alert"]) == (2, 1)
    again = store.write(Batch([alert_row(alert_json("a", 1, summary="other"))]))
    assert again.repeated["alert"] == 1
    assert "other" not in Reader(tmp_path / "db").revisions(ALERT, "a")[0]


def test_a_batch_that_fails_moves_neither_rows_nor_positions(tmp_path: Path) -> None:
    store = Store(tmp_path / "db")
    position = Position("topic-id", 7, 1_000)
    store.write(Batch([row("a", 1)], positions={("t", 0): position}))
    broken = Revision(ALERT, "c", 1, 0, ("too", "few"), "{}")
    with pytest.raises(sqlite3.Error):
        store.write(Batch([row("b", 1), broken], positions={("t", 0): Position("topic-id", 9, 2_000)}))
    store.close()
    assert Store(tmp_path / "db").positions() == {("t", 0): position}
    assert Reader(tmp_path / "db").revisions(ALERT, "b") == []


def test_rows_whose_position_cannot_be_written_are_not_there_either(tmp_path: Path) -> None:
    store = Store(tmp_path / "db")
    with pytest.raises(OverflowError):
        store.write(Batch([row("a", 1)], positions={("t", 0): Position("topic-id", 2**63, 1_000)}))
    assert Reader(tmp_path / "db").revisions(ALERT, "a") == []
    assert store.write(Batch([row("a", 1)])).rows["alert"] == 1


def test_the_json_is_kept_to_the_letter(tmp_path: Path) -> None:
    data = alert_json(summary="Größe × 2", added_later={"x": [1.50, None]}).replace(b'": ', b'" :  ')
    Store(tmp_path / "db").write(Batch([alert_row(data)]))
    assert Reader(tmp_path / "db").revisions(ALERT, "a") == [data.decode()]


def test_renewing_a_decision_does_not_move_it_in_the_list(tmp_path: Path) -> None:
    store, reader = Store(tmp_path / "db"), Reader(tmp_path / "db")
    rows = [decision_row(decision_json(id, 1, issued_s=START_S + n)) for n, id in enumerate("ab")]
    store.write(Batch([*rows, decision_row(decision_json("a", 2, issued_s=START_S + 30))]))
    page = reader.page(DECISION, [], None, 10)
    assert [json.loads(item)["id"] for item in page.items] == ["b", "a"]


def test_a_database_of_a_newer_version_is_refused_by_name(tmp_path: Path) -> None:
    db = sqlite3.connect(tmp_path / "db")
    db.execute(f"PRAGMA user_version = {VERSION + 1}")
    db.close()
    with pytest.raises(ConfigError, match="newer layerwatch"):
        Store(tmp_path / "db")


def test_a_file_that_is_no_database_is_refused_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "db").write_bytes(b"something else entirely" * 100)
    with pytest.raises(ConfigError, match="LAYERWATCH_STATE_DIR"):
        Store(tmp_path / "db")


@pytest.mark.parametrize(
    "data",
    [
        alert_json(opened_at="yesterday"),
        alert_json().replace(b'"revision": 1', b'"revision": 9223372036854775808'),
        alert_json(extra="?").replace(b'"?"', b'"\xff"'),
        b"",
        decision_json(),
    ],
    ids=["time", "revision", "not UTF-8", "empty", "of another kind"],
)
def test_an_alert_that_could_not_be_served_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidRecord) as caught:
        alert_row(data)
    assert caught.value.reason == "malformed"
