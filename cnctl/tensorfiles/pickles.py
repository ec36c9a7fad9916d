"""Read a pickle as data: nothing that it names is imported, called or built.

A pickle is a program for a small stack machine. This machine knows only the instructions that
`torch.save` writes (those of torch's own weights_only reader), keeps the name of a class or
function as a name, and refuses the file when a name is not on the short list below or is called
in a way that `torch.save` never writes. MAX_BYTES and MAX_OPCODES bound its time and memory; what
a call takes up is counted too, and nothing walks into nested values.
"""

from __future__ import annotations

import pickletools
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod
from typing import Any, BinaryIO

from cnctl.tensorfiles.header import TensorSpec

MAX_BYTES = 64 << 20
MAX_OPCODES = 2_000_000
MAX_ARGUMENTS = 16
MAX_NAME = 1000
MAX_DIMENSIONS = 32
MAX_NUMBER = 1 << 48
"""No file holds so many items; offsets in bytes stay far below 2 ** 63."""

STORAGES = {
    "DoubleStorage": "F64", "FloatStorage": "F32", "HalfStorage": "F16", "BFloat16Storage": "BF16",
    "LongStorage": "I64", "IntStorage": "I32", "ShortStorage": "I16", "CharStorage": "I8",
    "ByteStorage": "U8", "BoolStorage": "BOOL",
}  # fmt: skip
UNTYPED = "torch.storage.UntypedStorage"
DTYPES = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16",
    "float8_e4m3fn": "F8_E4M3", "float8_e5m2": "F8_E5M2",
    "int64": "I64", "int32": "I32", "int16": "I16", "int8": "I8",
    "uint64": "U64", "uint32": "U32", "uint16": "U16", "uint8": "U8", "bool": "BOOL",
}  # fmt: skip

CALLED = frozenset(
    {
        "torch._utils._rebuild_tensor_v2",
        "torch._utils._rebuild_tensor_v3",  # of dtypes that have no typed storage
        "torch._utils._rebuild_parameter",
        "collections.OrderedDict",
        "collections.defaultdict",
        "_codecs.encode",
    }
)
# Classes in training checkpoints of old Lightning that hold no weights; their objects are skipped.
SKIPPED = frozenset(
    {
        "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
        "pytorch_lightning.callbacks.early_stopping.EarlyStopping",
        "pytorch_lightning.utilities.parsing.AttributeDict",
        "lightning.pytorch.callbacks.model_checkpoint.ModelCheckpoint",
        "lightning_fabric.utilities.data.AttributeDict",
        "numpy.core.multiarray.scalar",
        "numpy._core.multiarray.scalar",
        "numpy.dtype",
        "builtins.dict",  # these three: the default factories of a defaultdict
        "builtins.int",
        "builtins.list",
    }
)
# Python 2 wrote these under their old names; torch's reader maps them as this table does.
RENAMED = {"__builtin__.": "builtins."}


class UnsafePickleError(Exception):
    """A pickle that is refused; its text ends a sentence that says why."""


@dataclass(frozen=True, slots=True)
class Global:
    """The name of a class or function. It is never looked up."""

    name: str


@dataclass(frozen=True, slots=True)
class Skipped:
    """Stands for a set, or an object of a class in `SKIPPED`."""

    name: str


@dataclass(frozen=True, slots=True)
class Storage:
    key: str
    dtype: str
    numel: int

    @property
    def nbytes(self) -> int:
        return TensorSpec(self.dtype, (self.numel,)).nbytes


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor inside its storage; offset and stride count items, as torch does."""

    storage: Storage
    dtype: str
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


@dataclass(frozen=True)
class Pickle:
    value: Any
    """Plain data, with `Tensor`, `Storage`, `Global` and `Skipped` in place of objects."""
    storages: dict[str, Storage]
    """Every piece of data that the pickle refers to, by key."""


def read_pickle(file: BinaryIO, *, max_bytes: int = MAX_BYTES) -> Pickle:
    """Read one pickle and leave `file` behind it. Raises UnsafePickleError, ValueError."""
    machine = _Machine()
    limited: Any = _Limited(file, max_bytes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of backslashes in names: the name is refused, in one line
        for count, (opcode, argument, _) in enumerate(pickletools.genops(limited)):
            if count > MAX_OPCODES:
                raise UnsafePickleError("its pickle is too long")
            if opcode.name == "STOP":
                break
            machine.step(opcode.name, argument)
    return Pickle(machine.pop(), machine.storages)


class _Limited:
    """A reader that gives one pickle a limited number of bytes."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._left = file, size

    def read(self, size: int) -> bytes:
        if size > self._left:
            raise UnsafePickleError("its pickle is too long")
        self._left -= size
        return self._file.read(size)

    def readline(self) -> bytes:
        line = self._file.readline(MAX_NAME)  # names of modules and classes, nothing else
        self._left -= len(line)
        return line


@dataclass
class _Machine:
    stack: list[Any] = field(default_factory=list)
    outer: list[list[Any]] = field(default_factory=list)
    memo: dict[int, Any] = field(default_factory=dict)
    storages: dict[str, Storage] = field(default_factory=dict)
    copied: int = 0
    """Items of lists and tuples that calls have taken up."""

    def step(self, name: str, argument: Any) -> None:
        if name in _PUSH_ARGUMENT:
            self.stack.append(argument)
        elif name in _PUSH:
            self.stack.append(_PUSH[name]())
        elif name in _ACT:
            _ACT[name](self, argument)
        else:
            raise UnsafePickleError(
                f"its pickle has the instruction {name}, which torch.save never writes"
            )

    def pop(self) -> Any:
        if not self.stack:
            raise UnsafePickleError("its pickle is broken")
        return self.stack.pop()

    def top(self) -> Any:
        if not self.stack:
            raise UnsafePickleError("its pickle is broken")
        return self.stack[-1]

    def mark(self) -> None:
        self.outer.append(self.stack)
        self.stack = []

    def since_mark(self) -> list[Any]:
        if not self.outer:
            raise UnsafePickleError("its pickle is broken")
        items, self.stack = self.stack, self.outer.pop()
        return items

    def make_tuple(self, size: int | None) -> None:
        items = self.since_mark() if size is None else [self.pop() for _ in range(size)][::-1]
        self.stack.append(tuple(items))

    def append(self, items: list[Any]) -> None:
        if type(self.top()) is not list:
            raise UnsafePickleError("its pickle appends to what is not a list")
        self.top().extend(items)

    def set_items(self, items: list[Any]) -> None:
        if type(self.top()) is not dict or len(items) % 2:
            raise UnsafePickleError("its pickle sets items of what is not a dictionary")
        for key, value in zip(items[::2], items[1::2], strict=True):
            # Only short text can name a tensor. Hashing a deeply nested key would overrun the C
            # stack; comparing long texts again and again takes hours.
            self.top()[key if _is_name(key) else _Other()] = value

    def recall(self, index: int) -> None:
        if index not in self.memo:
            raise UnsafePickleError("its pickle is broken")
        self.stack.append(self.memo[index])

    def name(self, argument: str) -> None:
        module, _, attribute = argument.partition(" ")
        name = f"{module}.{attribute}"
        for old, new in RENAMED.items():
            name = new + name.removeprefix(old) if name.startswith(old) else name
        if not is_allowed(name):
            raise UnsafePickleError(f"it asks for {name[:120].encode('unicode_escape').decode()}")
        self.stack.append(Global(name))

    def reduce(self) -> None:
        arguments, function = self.pop(), self.pop()
        if type(arguments) is not tuple or type(function) is not Global:
            raise UnsafePickleError("it calls what is not a function")
        if len(arguments) > MAX_ARGUMENTS:
            raise UnsafePickleError(f"it calls {function.name} in a way that torch.save never does")
        self.copied += sum(len(item) for item in arguments if type(item) in (list, tuple))
        if self.copied > MAX_OPCODES:  # one long list, taken up many times
            raise UnsafePickleError("its pickle is too long")
        self.stack.append(_call(function.name, arguments))

    def new_object(self) -> None:
        _, kind = self.pop(), self.pop()
        if type(kind) is not Global or kind.name not in SKIPPED:
            raise UnsafePickleError("it builds objects that hold no weights")
        self.stack.append(Skipped(kind.name))

    def build(self) -> None:
        self.pop()
        if type(self.top()) not in (dict, Skipped):
            raise UnsafePickleError("it sets the state of objects that hold no weights")

    def persistent(self) -> None:
        storage = _storage(self.pop())
        if self.storages.setdefault(storage.key, storage) != storage:
            raise UnsafePickleError("it describes the same data in two ways")
        self.stack.append(storage)


class _Other:
    """A key that cannot name a tensor."""


def _is_name(key: Any) -> bool:
    return type(key) is str and len(key) <= MAX_NAME


def is_allowed(name: str) -> bool:
    """Returns whether a pickle may mention this class or function."""
    module, _, attribute = name.rpartition(".")
    if module in ("torch", "torch.cuda") and attribute in STORAGES:
        return True
    if module == "torch" and attribute in DTYPES:
        return True
    return name in CALLED or name in SKIPPED or name == UNTYPED


def _call(name: str, arguments: tuple[Any, ...]) -> Any:
    match name, arguments:
        case (
            "torch._utils._rebuild_tensor_v2",
            (Storage() as storage, int(), tuple(), tuple(), bool(), _, *metadata),
        ):
            return _tensor(storage, storage.dtype, *arguments[1:4], metadata=metadata)
        case (
            "torch._utils._rebuild_tensor_v3",
            (Storage() as storage, int(), tuple(), tuple(), bool(), _, Global(dtype), *metadata),
        ):
            return _tensor(storage, _dtype(dtype), *arguments[1:4], metadata=metadata)
        case "torch._utils._rebuild_parameter", (Tensor() as tensor, bool(), _):
            return tensor
        case "collections.OrderedDict", ():
            return {}
        case "collections.OrderedDict", ([*pairs],) if all(map(_is_pair, pairs)):
            return dict(pairs)
        case "collections.defaultdict", _:
            return {}
        case "_codecs.encode", (str(), "latin1"):
            return Skipped("bytes")
    if name in SKIPPED:
        return Skipped(name)
    raise UnsafePickleError(f"it calls {name} in a way that torch.save never does")


def _is_pair(pair: Any) -> bool:
    return type(pair) in (list, tuple) and len(pair) == 2 and _is_name(pair[0])


def _tensor(
    storage: Storage,
    dtype: str,
    offset: int,
    shape: tuple[Any, ...],
    stride: tuple[Any, ...],
    *,
    metadata: list[Any],
) -> Tensor:
    """Returns a tensor that lies within its storage."""
    numbers = (offset, *shape, *stride)
    if (
        len(shape) != len(stride)
        or len(shape) > MAX_DIMENSIONS
        or not all(type(n) is int and 0 <= n < MAX_NUMBER for n in numbers)
        or prod(side or 1 for side in shape) >= MAX_NUMBER
    ):
        raise UnsafePickleError("it has a tensor of impossible shape")
    if any(metadata):  # torch would change the sign of what the file holds
        raise UnsafePickleError("it has a tensor that is negated or conjugated when it is read")
    reach = offset + 1 + sum((side - 1) * step for side, step in zip(shape, stride, strict=True))
    if 0 not in shape and TensorSpec(dtype, (reach,)).nbytes > storage.nbytes:
        raise UnsafePickleError("it has a tensor that reaches beyond its own data")
    return Tensor(storage, dtype, offset, shape, stride)


def _dtype(name: str) -> str:
    module, _, attribute = name.rpartition(".")
    if module != "torch" or attribute not in DTYPES:
        raise UnsafePickleError("it has data of an unknown type")
    return DTYPES[attribute]


def _storage(identity: Any) -> Storage:
    if type(identity) is tuple and len(identity) == 6 and identity[5] is None:  # a legacy file's
        identity = identity[:5]
    match identity:
        case ("storage", Global(name), str(key), str(), int(numel)) if _is_name(key):
            pass
        case _:
            raise UnsafePickleError("it refers to data in a way that torch.save never does")
    kind = name.rpartition(".")[2]
    if not (name == UNTYPED or kind in STORAGES) or not 0 <= numel < MAX_NUMBER:
        raise UnsafePickleError("it has data of an unknown type")
    return Storage(key, "U8" if name == UNTYPED else STORAGES[kind], numel)


_PUSH_ARGUMENT = frozenset(
    {"BININT", "BININT1", "BININT2", "BINFLOAT", "BINUNICODE", "SHORT_BINSTRING", "LONG1"}
)
_PUSH: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list,
    "EMPTY_DICT": dict,
    "EMPTY_SET": lambda: Skipped("set"),
}
_ACT: dict[str, Callable[[_Machine, Any], None]] = {
    "PROTO": lambda machine, version: None,
    "MARK": lambda machine, _: machine.mark(),
    "TUPLE": lambda machine, _: machine.make_tuple(None),
    "TUPLE1": lambda machine, _: machine.make_tuple(1),
    "TUPLE2": lambda machine, _: machine.make_tuple(2),
    "TUPLE3": lambda machine, _: machine.make_tuple(3),
    "APPEND": lambda machine, _: machine.append([machine.pop()]),
    "APPENDS": lambda machine, _: machine.append(machine.since_mark()),
    "SETITEM": lambda machine, _: machine.set_items([machine.pop(), machine.pop()][::-1]),
    "SETITEMS": lambda machine, _: machine.set_items(machine.since_mark()),
    "BINPUT": lambda machine, index: machine.memo.__setitem__(index, machine.top()),
    "LONG_BINPUT": lambda machine, index: machine.memo.__setitem__(index, machine.top()),
    "BINGET": lambda machine, index: machine.recall(index),
    "LONG_BINGET": lambda machine, index: machine.recall(index),
    "GLOBAL": lambda machine, argument: machine.name(argument),
    "REDUCE": lambda machine, _: machine.reduce(),
    "NEWOBJ": lambda machine, _: machine.new_object(),
    "BUILD": lambda machine, _: machine.build(),
    "BINPERSID": lambda machine, _: machine.persistent(),
}
