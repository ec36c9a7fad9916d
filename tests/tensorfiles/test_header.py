"""Malformed safetensors files: each is one line, never a traceback; sound ones read as they are."""

import json
import struct
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from cnctl.errors import CnctlError
from cnctl.tensorfiles.header import read_header

F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


def pack(header: object, data: bytes = b"\0" * 8) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def test_reads_names_dtypes_shapes_and_metadata(tmp_path: Path) -> None:
    tensors = {"a": torch.zeros(2, 3), "b": torch.zeros(4, dtype=torch.bfloat16)}
    (tmp_path / "x").write_bytes(save(tensors, {"k": "v"}))
    header = read_header(tmp_path / "x")
    assert {n: (t.dtype, t.shape) for n, t in header.tensors.items()} == {
        "a": ("F32", (2, 3)),
        "b": ("BF16", (4,)),
    }
    assert header.metadata == {"k": "v"}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x01\0\0",
        struct.pack("<Q", 10**6) + b"{",
        struct.pack("<Q", 2**63) + b"{}",
        pack(b"{not json"),
        pack(b"\xff\xfe{}"),
        pack([1]),
        pack(b"[" * 100_000),
        pack(b'{"a": ' * 50_000),
        pack({"a": 1}),
        pack({"a": {"dtype": "F32", "shape": [2]}}),
        pack({"a": F32 | {"dtype": "Q4"}}),
        pack({"a": F32 | {"dtype": 7}}),
        pack({"a": F32 | {"shape": [-2]}}),
        pack({"a": F32 | {"shape": [2.0]}}),
        pack({"a": F32 | {"shape": [True, 2]}}),
        pack({"a": F32 | {"shape": [2**62, 2**62]}}),
        pack({"a": F32 | {"shape": 2}}),
        pack({"a": F32 | {"data_offsets": [0, 4]}}),
        pack({"a": F32 | {"data_offsets": [8, 16]}}),
        pack({"a": F32 | {"data_offsets": [-8, 0]}}),
        pack({"a": F32, "b": F32}),
        pack({"a": F32}, b"\0" * 9),
        pack({"a": F32}, b"\0" * 7),
        pack({"a": F32}, b""),
        pack({}, b"\0"),
        pack({"a": F32, "__metadata__": {"k": 1}}),
        pack({"a": F32, "__metadata__": []}),
        pack(b'{"a": %b, "a": %b}' % ((json.dumps(F32).encode(),) * 2)),
    ],
    ids=range(29),
)
def test_malformed_files_are_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(CnctlError, match="is not a whole safetensors file") as caught:
        read_header(tmp_path / "x")
    assert "\n" not in str(caught.value)


def test_refuses_too_many_tensors(tmp_path: Path) -> None:
    empty = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    (tmp_path / "x").write_bytes(pack({str(n): empty for n in range(10_001)}, b""))
    with pytest.raises(CnctlError, match="10001 tensors"):
        read_header(tmp_path / "x")


@given(
    place=st.integers(0, 10**6),
    value=st.integers(0, 255),
    cut=st.integers(0, 40) | st.none(),
)
@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_accepts_no_mutant_that_the_reference_reader_refuses(tmp_path, place, value, cut) -> None:
    content = bytearray(save({"a": torch.ones(2, 3), "b": torch.ones(1)}, {"k": "v"}))
    content[place % len(content)] = value
    path = tmp_path / "mutant"
    path.write_bytes(bytes(content[: len(content) - (cut or 0)]))
    try:
        ours = {n: list(t.shape) for n, t in read_header(path).tensors.items()}
    except CnctlError:
        return
    try:
        with safe_open(path, framework="pt") as file:
            assert {name: file.get_slice(name).get_shape() for name in file.keys()} == ours  # noqa: SIM118
    except SafetensorError as error:
        pytest.fail(f"the reference reader refuses: {error}")
