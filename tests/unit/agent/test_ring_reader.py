"""Reading a ring while it is written: nothing twice, nothing torn, and what was overwritten is counted."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layerwatch.agent.ring_reader import RingReader
from layerwatch.schemas import ring
from layerwatch.schemas.errors import InvalidRecord
from layerwatch.schemas.ring import Execution, RingHeader

TOKEN = bytes(16)


class Writer:
    """A ring written as its format says, without the probe."""

    def __init__(self, path: Path, capacity: int = 8) -> None:
        self.capacity, self.written = capacity, 0
        header = ring.encode_header(RingHeader(capacity, 0, 1, TOKEN))
        path.write_bytes(header.ljust(ring.ring_bytes(capacity), b"\0"))
        self._fd = os.open(path, os.O_RDWR)

    def put(self, position: int) -> None:
        execution = Execution(position, position, 1000, 1, 0, 0, 0, 0, (1, 2))
        self.put_bytes(position, ring.encode_execution(execution))

    def put_bytes(self, position: int, data: bytes) -> None:
        os.pwrite(self._fd, data, ring.HEADER_BYTES + position % self.capacity * ring.RECORD_BYTES)

    def say(self, written: int) -> None:
        self.written = written
        os.pwrite(self._fd, ring.encode_u64(written), ring.WRITTEN_OFFSET)

    def write(self, count: int) -> None:
        for position in range(self.written, self.written + count):
            self.put(position)
            self.say(position + 1)

    def close(self) -> None:
        os.close(self._fd)


@settings(max_examples=60, deadline=None)
@given(bursts=st.lists(st.integers(0, 20), max_size=12))
def test_each_record_is_read_once_or_counted_as_lost(
    tmp_path_factory: pytest.TempPathFactory, bursts: list[int]
) -> None:
    path = tmp_path_factory.mktemp("ring") / "ring-000"
    writer = Writer(path)
    reader = RingReader(path)
    seen: list[int] = []
    for burst in bursts:
        writer.write(burst)
        seen += [e.position for e in reader.poll().executions]
    assert seen == sorted(set(seen))
    assert len(seen) + reader.lost == writer.written
    assert reader.torn == 0
    reader.close()
    writer.close()


def test_the_next_agent_goes_on_where_the_last_one_committed(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "r")
    writer.write(5)
    first = RingReader(tmp_path / "r")
    assert len(first.poll().executions) == 5
    first.commit()
    writer.write(2)
    first.poll()  # and dies before it has passed them on
    first.close()
    second = RingReader(tmp_path / "r")
    assert [e.position for e in second.poll().executions] == [5, 6]
    second.close()
    writer.close()


def test_a_record_that_is_not_there_yet_is_waited_for_once_and_then_skipped(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "r")
    writer.write(2)
    writer.put_bytes(2, bytes(128))
    writer.put(3)
    writer.say(4)  # seen before the record itself
    reader = RingReader(tmp_path / "r")
    assert [e.position for e in reader.poll().executions] == [0, 1]
    writer.put(2)
    assert [e.position for e in reader.poll().executions] == [2, 3]
    writer.put_bytes(4, b"\7" * 128)
    writer.put(5)
    writer.say(6)
    assert reader.poll().executions == []
    assert [e.position for e in reader.poll().executions] == [5]
    assert (reader.torn, reader.lost) == (1, 0)
    reader.close()
    writer.close()


def test_a_slot_that_is_just_being_overwritten_is_lost_not_torn(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "r")
    writer.write(8)
    writer.put_bytes(8, b"\7" * 128)  # the ninth record is half there: the first one is gone
    reader = RingReader(tmp_path / "r")
    assert [e.position for e in reader.poll().executions] == list(range(1, 8))
    assert (reader.torn, reader.lost) == (0, 1)
    reader.close()
    writer.close()


def test_a_file_cut_short_under_the_reader_raises_and_kills_nobody(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "r")
    writer.write(3)
    reader = RingReader(tmp_path / "r")
    os.truncate(tmp_path / "r", 100)
    with pytest.raises(InvalidRecord):
        reader.poll()
    os.truncate(tmp_path / "r", 10)
    with pytest.raises(InvalidRecord):
        RingReader(tmp_path / "r")
    reader.close()
    writer.close()
