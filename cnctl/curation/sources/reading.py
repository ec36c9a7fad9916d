"""Read the content of a row, whatever its kind."""

from __future__ import annotations

from collections.abc import Mapping

from cnctl.curation.rows import Row
from cnctl.curation.sources import broken, files, tables, tars, videos
from cnctl.curation.sources.content import Content


def read_row(row: Row, secrets: Mapping[str, str]) -> Content:
    """The image file and its caption; CnctlError where it cannot be read.

    secrets: URLs with credentials by their names without.
    """
    found = _read(row, secrets)
    return found._replace(caption=row.caption, caption_source="list") if row.caption else found


def _read(row: Row, secrets: Mapping[str, str]) -> Content:
    match row.place[0]:
        case files.KIND:
            return files.read(row.place)
        case tars.KIND:
            return tars.read(row.place, secrets)
        case tables.KIND:
            return tables.read(row.place)
        case videos.KIND:
            return videos.read(row.place)
    return broken.read(row.place)
