"""Pickles read as data, against torch's own reading of the same files."""

import functools
import io
import pickle
import resource
import time
from contextlib import suppress

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cnctl.errors import CnctlError
from cnctl.tensorfiles import pickles
from cnctl.tensorfiles.header import TensorSpec
from cnctl.tensorfiles.pickles import Skipped, UnsafePickleError, is_allowed, read_pickle
from cnctl.tensorfiles.torchfile import list_torch_file

CODES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64"}
CONTAINERS = [True, False]


def save(value, path, zipped) -> None:
    torch.save(value, path, _use_new_zipfile_serialization=zipped)


@pytest.mark.parametrize("zipped", CONTAINERS, ids=["zip", "legacy"])
def test_lists_what_torch_reads(tmp_path, zipped) -> None:
    big = torch.zeros(4, 6)
    tensors = {
        "plain": torch.zeros(2, 3),
        "half": torch.zeros(5, dtype=torch.float16),
        "brain": torch.zeros(1, 1, dtype=torch.bfloat16),
        "integer": torch.zeros(7, dtype=torch.int64),
        "scalar": torch.tensor(1.0),
        "empty": torch.zeros(0, 3),
        "view": big[1:3, ::2],
        "transposed": big.T,
        "parameter": torch.nn.Parameter(torch.zeros(3)),
    }
    extra = {"epoch": 3, "nested": [{"x": (1, None, True)}, "text", 2.5, 10**30]}
    save({"state_dict": tensors, **extra}, tmp_path / "x", zipped)
    listing = list_torch_file(tmp_path / "x")
    read = torch.load(tmp_path / "x", weights_only=True)["state_dict"]
    assert listing.wrapper == "state_dict"
    assert set(listing.others) == {"epoch", "nested"}
    assert listing.tensors == {
        name: TensorSpec(CODES[tensor.dtype], tuple(tensor.shape)) for name, tensor in read.items()
    }


@pytest.mark.parametrize("zipped", CONTAINERS, ids=["zip", "legacy"])
def test_lists_the_state_of_a_module(tmp_path, zipped) -> None:
    module = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))
    optimizer = torch.optim.AdamW(module.parameters())
    module(torch.ones(4, 2)).sum().backward()
    optimizer.step()
    state = {"state_dict": module.state_dict(), "optimizer_states": [optimizer.state_dict()]}
    save(state, tmp_path / "x", zipped)
    listing = list_torch_file(tmp_path / "x")
    assert set(listing.tensors) == set(module.state_dict())
    assert listing.others == ("optimizer_states",)


@pytest.mark.parametrize(
    "name",
    [
        "os.system", "posix.system", "nt.system", "builtins.eval", "builtins.exec", "builtins.set",
        "builtins.getattr", "builtins.bytearray", "subprocess.Popen", "torch.Tensor",
        "torch.FloatTensor", "torch.load", "torch.hub.load",
        "torch._utils._rebuild_sparse_tensor", "torch._tensor._rebuild_from_type_v2",
        "torch.jit._pickle.build_intlist", "torch.storage._load_from_bytes",
        "collections.Counter", "functools.partial", "numpy.load", "numpy.core.multiarray.load",
        "pytorch_lightning.callbacks.model_checkpoint.os.system", "FloatStorage",
        "torch.cuda.os", "evil.FloatStorage", "", ".",
    ],
)  # fmt: skip
def test_names_off_the_short_list_are_refused(name) -> None:
    assert not is_allowed(name)
    module, _, attribute = name.rpartition(".")
    program = b"\x80\x02c" + f"{module}\n{attribute}\n".encode() + b"."
    with pytest.raises(UnsafePickleError, match="it asks for"):
        read_pickle(io.BytesIO(program))


ORDERED = b"ccollections\nOrderedDict\n"
REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"


@pytest.mark.parametrize(
    ("program", "why"),
    [
        pytest.param(b"\x80\x04\x95\x01\0\0\0\0\0\0\0N.", "FRAME", id="protocol 4"),
        pytest.param(b"\x80\x04\x8c\x02os\x8c\x06system\x93.", "SHORT_BINUNICODE", id="global"),
        pytest.param(b"(S'id'\nios\nsystem\n.", "STRING", id="INST"),
        pytest.param(b"(ios\nsystem\n.", "INST", id="INST without arguments"),
        pytest.param(b"(" + ORDERED + b"o.", "OBJ", id="OBJ"),
        pytest.param(b"\x82\x01.", "EXT1", id="extension"),
        pytest.param(b"Pstorage\n.", "PERSID", id="text persistent id"),
        pytest.param(b"N2.", "DUP", id="DUP"),
        pytest.param(b"K\x01)R.", "calls what is not a function", id="call a number"),
        pytest.param(ORDERED + b"NR.", "calls what is not a function", id="arguments no tuple"),
        pytest.param(ORDERED + b"K\x05\x85R.", "calls collections.OrderedDict", id="ordered of 5"),
        pytest.param(REBUILD + b")R.", "calls torch._utils._rebuild_tensor_v2", id="no arguments"),
        pytest.param(ORDERED + b")\x81.", "builds objects", id="new object"),
        pytest.param(b"K\x01}b.", "sets the state", id="state of a number"),
        pytest.param(b"K\x01Q.", "refers to data", id="persistent number"),
        pytest.param(b"X\x06\0\0\0modulecos\nsystem\n\x86Q.", "it asks for os.system", id="module"),
        pytest.param(b"(NNs.", "broken|not a dictionary", id="item of none"),
        pytest.param(b"]K\x01s.", "broken", id="pop of nothing"),
        pytest.param(b"}K\x01a.", "appends to what is not a list", id="append to dictionary"),
        pytest.param(b"h\x05.", "broken", id="memo of nothing"),
        pytest.param(b"q\x05.", "broken", id="memo put of nothing"),
        pytest.param(b"t.", "broken", id="tuple without mark"),
        pytest.param(b".", "broken", id="stop at once"),
        pytest.param(
            b"c_codecs\nencode\nX\x01\0\0\0aX\x08\0\0\0punycode\x86R.", "calls _codecs.encode",
            id="slow codec",
        ),
        pytest.param(b"X\xff\xff\xff\x7fabc", "too long", id="string of 2 GiB"),
        pytest.param(b"N0N.", "POP", id="POP"),
        pytest.param(b"c" + b"a" * 5000 + b"\nb\n.", ".", id="endless name"),
    ],
)  # fmt: skip
def test_instructions_that_torch_never_writes_are_refused(program, why) -> None:
    with pytest.raises((UnsafePickleError, ValueError), match=why):
        read_pickle(io.BytesIO(program))


def test_too_many_instructions_are_refused(monkeypatch) -> None:
    monkeypatch.setattr(pickles, "MAX_OPCODES", 1000)
    with pytest.raises(UnsafePickleError, match="too long"):
        read_pickle(io.BytesIO(b"N" * 1001 + b"."))


def test_a_backslash_in_a_name_is_refused_without_a_warning() -> None:
    """Warnings are errors in these tests; Python's own pickletools gives one."""
    with pytest.raises(UnsafePickleError, match="it asks for"):
        read_pickle(io.BytesIO(b"\x80\x02c\\torch\nzeros\n."))


def text(content: bytes) -> bytes:
    return b"X" + len(content).to_bytes(4, "little") + content


LONG = text(b"a" * 10**6)
MANY = 20_000


@pytest.mark.parametrize(
    "program",
    [
        pytest.param(
            ORDERED + b"q\x02](" + text(b"k") + b"N\x86q\x01" + b"h\x01" * MANY + b"e\x85q\x00"
            + b"h\x02h\x00R" * MANY,
            id="a list of pairs",
        ),
        pytest.param(
            ORDERED + b"q\x02((" + text(b"k") + b"N\x86q\x01" + b"h\x01" * MANY + b"t\x85q\x00"
            + b"h\x02h\x00R" * MANY,
            id="a tuple of pairs",
        ),
        pytest.param(
            b"cnumpy\ndtype\nq\x02(" + b"N" * MANY + b"tq\x00" + b"h\x02h\x00R" * MANY,
            id="arguments",
        ),
        pytest.param(
            REBUILD + b"q\x02(" + b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000"
            b"X\x03\0\0\0cpuK\x01tQK\0(" + b"K\x01" * MANY + b"tq\x01h\x01\x89Ntq\x00"
            + b"h\x02h\x00R" * MANY,
            id="a shape",
        ),
        pytest.param(
            b"(" + b"N" * MANY + b"tq\x00" + b"h\x00Q" * MANY, id="the identity of a storage"
        ),
        pytest.param(
            b"c_codecs\nencode\nq\x02" + LONG + text(b"latin1") + b"\x86q\x00"
            + b"h\x02h\x00R" * MANY,
            id="text that is encoded",
        ),
        pytest.param(
            LONG + b"q\x00" + LONG + b"q\x01}" + b"h\x00Nsh\x01Ns" * MANY,
            id="two keys that are alike",
        ),
        pytest.param(b"\x8f" * MANY, id="sets"),
        pytest.param(b"(" * MANY, id="marks"),
        pytest.param(b")" + b"\x85" * MANY, id="a tuple in a tuple"),
        pytest.param(b"]" + b"]q\x00h\x00a" * MANY, id="lists that hold themselves"),
    ],
)  # fmt: skip
def test_what_is_repeated_costs_no_more_than_its_length(program) -> None:
    """A reader that repeats the work takes minutes, or gigabytes."""
    start, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with suppress(UnsafePickleError):
        read_pickle(io.BytesIO(program + b"."))
    assert time.process_time() - start < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB


@pytest.mark.parametrize("depth", [10**5])
def test_deep_nesting_neither_crashes_nor_hangs(depth) -> None:
    tuples = b")" + b"\x85" * depth + b"."
    assert read_pickle(io.BytesIO(tuples)).value
    key = b"}" + tuples[:-1] + b"K\x01s."
    assert len(read_pickle(io.BytesIO(key)).value) == 1


def test_objects_of_old_lightning_are_skipped() -> None:
    name = b"cpytorch_lightning.callbacks.model_checkpoint\nModelCheckpoint\n"
    program = name + b")\x81}X\x01\0\0\0aK\x01sb."
    assert isinstance(read_pickle(io.BytesIO(program)).value, Skipped)


@functools.cache
def _whole(zipped: bool) -> bytes:
    """Written once: the names of storages in a legacy file are addresses, of no fixed length."""
    buffer = io.BytesIO()
    save({"a": torch.ones(2, 3), "b": torch.ones(1)}, buffer, zipped)
    return buffer.getvalue()


@given(data=st.data())
@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_mutant_is_an_error_line_or_a_listing(tmp_path, data) -> None:
    content = bytearray(_whole(data.draw(st.booleans())))
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "mutant"
    path.write_bytes(bytes(content[: data.draw(st.integers(len(content) // 2, len(content)))]))
    with suppress(CnctlError):  # anything else would be a traceback
        list_torch_file(path)


def test_the_plain_reader_and_this_one_agree_on_data() -> None:
    value = {"a": [1, 2.5, None, True, (1, 2), {"b": "ü"}], "c": (), "d": [], "e": -(2**40)}
    program = pickle.dumps(value, protocol=2)
    assert read_pickle(io.BytesIO(program)).value == value
