"""A data set that annotate has begun is not trained on before it is finished."""

from pathlib import Path

import pytest

from cnctl.data.annotated import PLAN, REPORT, check_finished
from cnctl.errors import CnctlError


def test_an_unfinished_data_set_is_refused(tmp_path: Path) -> None:
    check_finished(tmp_path)
    (tmp_path / PLAN).touch()
    with pytest.raises(CnctlError, match="cnctl annotate has not finished") as refused:
        check_finished(tmp_path)
    assert "same annotate command again" in refused.value.hint
    (tmp_path / REPORT).touch()
    check_finished(tmp_path)
