"""Where detectors' weights are found, and that nothing in them ever runs."""

import hashlib
import json
import os
import pickle

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from cnctl.errors import CnctlError, MissingError
from cnctl.hints.files import DetectorFiles, describe, find_file, open_detector, safe_file
from cnctl.hints.run import load_detector
from cnctl.plugin import Condition, WeightFile

TENSORS = {"weight": torch.arange(6.0).reshape(2, 3), "steps": torch.tensor(7)}


def condition(**changes):
    file = WeightFile(**({"repo": "someone/nets", "filename": "net.pth"} | changes))
    return Condition(
        name="thing",
        summary="a thing",
        load_detector=lambda device, files: lambda image: image if files["net"] else None,
        files={"net": file},
    )


@pytest.fixture(autouse=True)
def own_folder(monkeypatch, tmp_path):
    """The user's folder; the hub's cache and the cache of converted files are empty ones."""
    monkeypatch.setenv("CNCTL_DETECTORS", str(tmp_path / "own"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("CNCTL_COMMERCIAL", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    (tmp_path / "own").mkdir()
    return tmp_path / "own"


def put_in_hub_cache(folder, name, content, *, digest=None, revision="abc"):
    """As the hub's client lays files out: a blob by its hash, a link by its name, a ref."""
    repo = folder / "models--someone--nets"
    blob = repo / "blobs" / (digest or hashlib.sha256(content).hexdigest())
    for part in (blob.parent, repo / "snapshots" / revision, repo / "refs"):
        part.mkdir(parents=True, exist_ok=True)
    blob.write_bytes(content)
    os.symlink(blob, repo / "snapshots" / revision / name)
    (repo / "refs" / "main").write_text(revision)


def test_a_torch_file_is_converted_once(own_folder, tmp_path):
    torch.save(TENSORS, own_folder / "net.pth")
    first = DetectorFiles(condition())["net"]
    assert first.suffix == ".safetensors"
    assert first.is_relative_to(tmp_path / "cache" / "cnctl" / "detectors")
    tensors = load_file(first)
    assert tensors.keys() == TENSORS.keys()
    assert all((tensors[name] == TENSORS[name]).all() for name in TENSORS)
    made = first.stat().st_mtime_ns
    assert DetectorFiles(condition())["net"] == first
    assert first.stat().st_mtime_ns == made
    assert len(list(first.parent.iterdir())) == 1


def test_a_safetensors_file_is_read_where_it_is(own_folder):
    save_file(TENSORS, own_folder / "net.safetensors")
    (own_folder / "net.pth").write_bytes(b"not looked at")
    assert DetectorFiles(condition())["net"] == own_folder / "net.safetensors"


@pytest.mark.parametrize(
    "place", ["a/net.safetensors", "net.safetensors", "someone/nets/a/net.pth"]
)
def test_own_folders_may_be_flat_or_like_the_hub(own_folder, place):
    (own_folder / place).parent.mkdir(parents=True, exist_ok=True)
    (own_folder / place).write_bytes(b"x")
    assert find_file(condition(filename="a/net.pth").files["net"]) == own_folder / place


def test_a_file_that_could_run_code_is_refused(own_folder):
    class Bomb:
        def __reduce__(self):
            return os.system, ("echo ran > ran",)

    torch.save({"weight": Bomb()}, own_folder / "net.pth")
    with pytest.raises(CnctlError, match="refused"):
        DetectorFiles(condition())["net"]
    (own_folder / "net.pth").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(CnctlError):
        DetectorFiles(condition())["net"]
    assert not os.path.exists("ran")


def test_missing_says_which_file_from_where_how_large_under_which_licence():
    detect = load_detector(condition(size=29_444_406, licence="Apache-2.0"))
    with pytest.raises(MissingError) as error:
        detect(np.zeros((8, 8, 3), np.uint8))
    assert str(error.value) == (
        "thing needs net.pth of someone/nets (29 MB; Apache-2.0), which is not installed"
    )
    assert error.value.hint.startswith("cnctl models pull thing")
    assert error.value.exit_code == 4


def test_what_is_not_known_is_not_made_up():
    text = describe(condition().files["net"])
    assert text == "net.pth of someone/nets (size unknown; licence not stated)"


def test_the_hubs_cache_is_looked_in(tmp_path):
    path = tmp_path / "weights.safetensors"
    save_file(TENSORS, path)
    put_in_hub_cache(tmp_path / "hub", "net.safetensors", path.read_bytes())
    found = DetectorFiles(condition(filename="net.safetensors"))["net"]
    assert load_file(found).keys() == TENSORS.keys()
    assert find_file(condition(filename="net.safetensors", revision="0" * 40).files["net"]) is None


def test_another_file_than_was_published_is_refused(tmp_path):
    put_in_hub_cache(tmp_path / "hub", "net.pth", b"something else")
    right = hashlib.sha256(b"something else").hexdigest()
    assert find_file(condition(sha256=right).files["net"])
    with pytest.raises(CnctlError, match="sha256"):
        DetectorFiles(condition(sha256="0" * 64))["net"]


def test_non_commercial_weights_are_refused_when_asked(own_folder, monkeypatch):
    save_file(TENSORS, own_folder / "net.safetensors")
    bound = condition(licence="research only", commercial=False)
    assert DetectorFiles(bound)["net"]
    with pytest.raises(CnctlError, match=r"non-commercial use only \(research only\)"):
        DetectorFiles(bound, commercial=True)["net"]
    monkeypatch.setenv("CNCTL_COMMERCIAL", "1")
    with pytest.raises(CnctlError, match="non-commercial"):
        DetectorFiles(bound)["net"]
    assert DetectorFiles(condition())["net"]


def test_a_transformers_folder_is_handed_over_without_pickles(own_folder):
    wanted = condition(filename="")
    folder = own_folder / "someone" / "nets"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    with pytest.raises(CnctlError, match="not a complete transformers model"):
        DetectorFiles(wanted)["net"]
    torch.save(TENSORS, folder / "pytorch_model.bin")
    copy = DetectorFiles(wanted)["net"]
    assert sorted(path.name for path in copy.iterdir()) == ["config.json", "model.safetensors"]
    assert load_file(copy / "model.safetensors").keys() == TENSORS.keys()
    assert DetectorFiles(wanted)["net"] == copy
    save_file(TENSORS, folder / "model.safetensors")
    assert DetectorFiles(wanted)["net"] == folder


def test_a_snapshot_with_a_config_alone_is_not_at_hand(tmp_path):
    wanted = condition(filename="").files["net"]
    put_in_hub_cache(tmp_path / "hub", "config.json", json.dumps({}).encode())
    assert find_file(wanted) is None
    path = tmp_path / "weights.safetensors"
    save_file(TENSORS, path)
    put_in_hub_cache(tmp_path / "hub", "model.safetensors", path.read_bytes())
    assert safe_file(find_file(wanted)).name == "abc"


def test_detectors_without_files_are_loaded_as_before():
    plain = Condition(name="plain", summary="", load_detector=lambda device: lambda image: image)
    assert open_detector(plain, "cpu")(1) == 1
