"""Packed texts against the tuples that they were packed from."""

import pickle

from cnctl.data.packed_texts import pack_texts

ROWS = [
    ("a.png", "", "ein Haus"),
    ("b\udcff.png", "hints/b.png", "家"),
    ("", "", ""),
    ("d", "e", "f"),
]


def test_packed_texts_are_the_rows_that_were_packed() -> None:
    packed = pack_texts(iter(ROWS), columns=3)
    assert [*packed] == ROWS
    assert [*packed.take([3, 1, 1])] == [ROWS[3], ROWS[1], ROWS[1]]
    assert [*packed[1:3]] == ROWS[1:3]
    assert packed[-1] == ROWS[-1]
    assert [packed.filled(column) for column in range(3)] == [3, 2, 3]
    assert [*pickle.loads(pickle.dumps(packed))] == ROWS


def test_a_row_of_packed_texts_takes_little_beside_its_letters() -> None:
    packed = pack_texts((("x" * 10, "", "y" * 20) for _ in range(1000)), columns=3)
    assert len(packed.data) + packed.spans.nbytes <= 1000 * (30 + 32)
