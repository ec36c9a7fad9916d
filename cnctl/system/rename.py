"""Renames in one step that `os.rename` does not have: to a free name, and of two paths."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2
AT_FDCWD = -100
UNSUPPORTED = (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP)
"""How systems and file systems say that they do not have an operation."""


class NameTaken(FileExistsError):
    """Something is at the path where a new file or folder was to appear."""

    def __init__(self, path: Path) -> None:
        super().__init__(errno.EEXIST, "it exists already", os.fspath(path))


def rename_new(source: Path, path: Path) -> None:
    """Rename a file or folder to a name that nothing has; NameTaken where something has it.

    Of several processes that take one name, one gets it.
    """
    try:
        if not _renameat2(source, path, RENAME_NOREPLACE):
            _rename_folder(source, path) if source.is_dir() else _link_file(source, path)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise
        raise NameTaken(path) from error


def exchange(one: Path, other: Path) -> bool:
    """Swap two paths, files or folders, in one step, so that neither is ever absent.

    Returns False, and does nothing, where the system or the file system cannot: not Linux, or NFS
    and some others. Raises OSError where one of them does not exist or may not be moved.
    """
    return _renameat2(one, other, RENAME_EXCHANGE)


def _renameat2(one: Path, other: Path, flag: int) -> bool:
    """Rename as Linux's call of this name; False, and nothing done, where there is none."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    names = os.fsencode(one), os.fsencode(other)
    if renameat2(AT_FDCWD, names[0], AT_FDCWD, names[1], flag) == 0:
        return True
    code = ctypes.get_errno()
    if code in UNSUPPORTED:
        return False
    raise OSError(code, os.strerror(code), os.fspath(one), None, os.fspath(other))


def _rename_folder(source: Path, path: Path) -> None:
    """An empty folder is replaced at worst: no system renames over one that holds something."""
    if os.path.lexists(path):
        raise NameTaken(path)
    source.rename(path)


def _link_file(source: Path, path: Path) -> None:
    try:
        os.link(source, path)
    except OSError as error:
        if error.errno not in (*UNSUPPORTED, errno.EPERM):
            raise
        path.open("xb").close()  # no links here: the name is claimed by an empty file
        os.replace(source, path)
    else:
        source.unlink()
