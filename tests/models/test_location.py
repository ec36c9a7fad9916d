"""Parts that a base shares with another one."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from cnctl.errors import CnctlError, MissingError
from cnctl.models.families import load_base, weight_files
from cnctl.models.locate import locate_base


def sharing(base: Path, folder: Path, parts: Any) -> Path:
    """The base in a folder, without its autoencoder; its index names other parts."""
    shutil.copytree(base, folder, ignore=shutil.ignore_patterns("vae"))
    index = json.loads((folder / "model_index.json").read_text())
    index.setdefault("cnctl", {})["parts"] = parts
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def test_a_part_of_another_base_is_read_and_counted(random_base: Path, tmp_path: Path) -> None:
    shutil.copytree(random_base / "vae", tmp_path / "other" / "vae")
    folder = sharing(random_base, tmp_path / "base", {"vae": "../other/vae"})
    whole, shared = load_base(random_base).vae.state_dict(), load_base(folder).vae.state_dict()
    assert all(torch.equal(whole[name], shared[name]) for name in whole)
    sizes = [
        sum(file.stat().st_size for file in weight_files(locate_base(one)))
        for one in (random_base, folder)
    ]
    assert sizes[0] == sizes[1]


def test_a_part_that_is_not_there(random_base: Path, tmp_path: Path) -> None:
    folder = sharing(random_base, tmp_path / "base", {"vae": "../other/vae"})
    with pytest.raises(MissingError, match=r"shares its vae with .*other/vae, which is not there"):
        load_base(folder)


@pytest.mark.parametrize("parts", [["vae"], "vae", {"vae": 3}, None])
def test_parts_that_are_not_folders_by_name(random_base: Path, tmp_path: Path, parts: Any) -> None:
    with pytest.raises(CnctlError, match="not an object of folders"):
        load_base(sharing(random_base, tmp_path / "base", parts))
