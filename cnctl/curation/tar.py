"""Tar files whose bytes depend on nothing but their members."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from typing import BinaryIO


class TarWriter:
    """Writes examples one after another; headers name no owner and no time.

    with TarWriter(file) as tar:
        tar.add("000000001", {"jpg": image, "hint.png": hint, "txt": caption})
    """

    def __init__(self, file: BinaryIO) -> None:
        self._tar = tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115

    def __enter__(self) -> TarWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._tar.close()

    def add(self, key: str, members: Mapping[str, bytes]) -> None:
        """Add the members of an example, by the ends of their names."""
        for kind, data in members.items():
            info = tarfile.TarInfo(f"{key}.{kind}")
            info.size = len(data)
            self._tar.addfile(info, io.BytesIO(data))
