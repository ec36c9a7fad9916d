"""`cnctl models`: list, fetch and remove, with a hub that this test serves."""

import hashlib
import http.server
import json
import re
import shutil
import threading
from dataclasses import replace

import pytest
import torch
from huggingface_hub import hf_hub_download
from safetensors.torch import load_file

from cnctl.commands.models.listing import list_models
from cnctl.commands.models.pull import pull, pull_detector
from cnctl.commands.models.remove import remove
from cnctl.errors import CnctlError, MissingError
from cnctl.hints.files import find_file
from cnctl.hints.hub_models import BLIP
from cnctl.plugin import Condition, WeightFile
from cnctl.registry import list_conditions

COMMIT = "1" * 40


class Hub(http.server.BaseHTTPRequestHandler):
    """As much of the hub as its client asks for: what there is; headers with commit and hash, data.

    damage: send other bytes than are announced.
    """

    files: dict[str, bytes] = {}  # noqa: RUF012  set by the tests
    damage = False

    def do_HEAD(self):
        self._answer(with_body=False)

    def do_GET(self):
        self._answer(with_body=True)

    def _answer(self, *, with_body):
        if self.path.startswith(f"/api/models/someone/nets/tree/{COMMIT}"):
            files = [
                {"type": "file", "path": name, "oid": "0" * 40, "size": len(body)}
                for name, body in self.files.items()
            ]
            return self._send(json.dumps(files).encode())
        body = self.files.get(self.path.rsplit("/", 1)[-1])
        if "/someone/nets/resolve/" not in self.path or body is None:
            self.send_response(404)
            self.send_header("X-Error-Code", "RepoNotFound")
            self.send_header("Content-Length", "0")
            return self.end_headers()
        self._send(body, with_body=with_body)

    def _send(self, body, *, with_body=True):
        self.send_response(200)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if with_body:
            self.wfile.write(bytes(len(body)) if self.damage else body)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def hub(monkeypatch, tmp_path):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
    monkeypatch.setattr(
        "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
        address + "/{repo_id}/resolve/{revision}/{filename}",
    )
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("CNCTL_DETECTORS", raising=False)
    yield server
    server.shutdown()
    server.server_close()


def test_pull_fetches_checks_and_converts(hub, tmp_path, monkeypatch):
    torch.save({"weight": torch.ones(3)}, tmp_path / "net.pth")
    body = (tmp_path / "net.pth").read_bytes()
    monkeypatch.setattr(Hub, "files", {"net.pth": body})
    digest = hashlib.sha256(body).hexdigest()
    file = WeightFile(repo="someone/nets", filename="net.pth", revision=COMMIT, sha256=digest)
    path = pull_detector(file)
    assert path.name == f"{digest}.safetensors"
    assert load_file(path)["weight"].tolist() == [1, 1, 1]
    monkeypatch.setattr(Hub, "files", {})
    assert pull_detector(file) == path  # installed: nothing is asked


def test_pull_refuses_another_file_than_was_published(hub, monkeypatch):
    monkeypatch.setattr(Hub, "files", {"net.pth": b"something else"})
    file = WeightFile(repo="someone/nets", filename="net.pth", sha256="0" * 64)
    with pytest.raises(CnctlError, match="sha256"):
        pull_detector(file)


def test_pull_of_a_folder_brings_its_pinned_commit_checked(hub, tmp_path, monkeypatch):
    torch.save({"weight": torch.ones(3)}, tmp_path / "net.pth")
    body = (tmp_path / "net.pth").read_bytes()
    files = {"config.json": b"{}", "pytorch_model.bin": body, "train.py": b"no weights"}
    monkeypatch.setattr(Hub, "files", files)
    right = WeightFile(
        repo="someone/nets", revision=COMMIT, sha256=hashlib.sha256(body).hexdigest()
    )
    folder = pull_detector(right)
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]
    assert load_file(folder / "model.safetensors")["weight"].tolist() == [1, 1, 1]
    assert not list((tmp_path / "hub").rglob("train.py"))
    with pytest.raises(CnctlError, match=r"sha256 is .*, not 000000000000"):
        pull_detector(replace(right, sha256="0" * 64))


def test_what_arrives_damaged_is_not_kept(hub, tmp_path, monkeypatch):
    torch.save({"weight": torch.ones(3)}, tmp_path / "net.pth")
    body = (tmp_path / "net.pth").read_bytes()
    monkeypatch.setattr(Hub, "files", {"net.pth": body})
    monkeypatch.setattr(Hub, "damage", True)
    file = WeightFile(repo="someone/nets", filename="net.pth", revision=COMMIT)
    with pytest.raises(MissingError, match=r"net\.pth of someone/nets was damaged in transfer"):
        pull_detector(file)
    monkeypatch.setattr(Hub, "damage", False)
    assert load_file(pull_detector(file))["weight"].tolist() == [1, 1, 1]


def test_all_detectors_weights_are_pinned():
    files = [BLIP]
    for entry in list_conditions():
        files += entry.condition.files.values() if entry.condition else ()
    loose = {file.repo for file in files if not re.fullmatch("[0-9a-f]{40}", file.revision)}
    assert len(files) > 20
    assert loose == set()
    unhashed = {file.repo for file in files if not re.fullmatch("[0-9a-f]{64}", file.sha256)}
    assert unhashed == {"facebook/maskformer-resnet101-coco-stuff"}  # none is published in reach
    assert all(file.size and file.licence for file in files)


def test_pull_of_what_the_hub_lacks_says_so(hub):
    with pytest.raises(MissingError, match="no/where"):
        pull_detector(WeightFile(repo="no/where", filename="net.pth"))


def test_pull_by_name():
    with pytest.raises(CnctlError, match="detector of canny needs no weights"):
        pull("canny")
    with pytest.raises(CnctlError, match="no model 'nonsense' to fetch"):
        pull("nonsense")


def test_list_shows_what_no_condition_names():
    found = {model.kind: model for model in list_models() if model.kind in ("captioner", "metric")}
    assert found["captioner"].name == "Salesforce/blip-image-captioning-base"
    assert found["metric"].pull == "clip"


def test_list_shows_detectors_with_their_licence():
    found = {model.name: model for model in list_models(condition="hough")}
    mlsd = found["mlsd_large_512_fp32.pth of lllyasviel/Annotators"]
    assert (mlsd.kind, mlsd.licence) == ("detector", "Apache-2.0")
    assert (mlsd.pull, mlsd.conditions) == ("hough", ("hough",))
    assert mlsd.path or mlsd.size == 6_341_481


def test_a_file_of_several_conditions_is_listed_once():
    readers = [model.conditions for model in list_models() if "ControlNetHED" in model.name]
    assert readers == [("hed", "scribble", "softedge-safe")]


def test_remove_takes_one_file_its_blob_and_its_converted_copy(hub, tmp_path, monkeypatch):
    """The repository holds another detector's file too, which stays."""
    torch.save({"weight": torch.ones(3)}, tmp_path / "net.pth")
    body = (tmp_path / "net.pth").read_bytes()
    monkeypatch.setattr(Hub, "files", {"net.pth": body, "other.pth": body + b"."})
    digest = hashlib.sha256(body).hexdigest()
    file = WeightFile(repo="someone/nets", filename="net.pth", revision=COMMIT, sha256=digest)
    other = replace(file, filename="other.pth", sha256="")
    copy = pull_detector(file)
    assert find_file(other) is None
    hf_hub_download(other.repo, other.filename, revision=COMMIT)
    _publish(monkeypatch, file)
    would = remove("mine", dry_run=True)
    assert copy in would.paths
    assert find_file(file)
    assert remove("mine") == would
    assert find_file(file) is None
    assert not copy.exists()
    assert find_file(other)
    assert digest not in {path.name for path in (tmp_path / "hub").rglob("*")}
    with pytest.raises(MissingError, match="'mine' is not installed"):
        remove("mine")


def test_remove_leaves_the_files_of_the_users_own_folder(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("CNCTL_DETECTORS", str(tmp_path / "own"))
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "net.pth").touch()
    _publish(monkeypatch, WeightFile(repo="someone/nets", filename="net.pth"))
    with pytest.raises(CnctlError, match="which is not in the hub's cache"):
        remove("mine")
    assert (tmp_path / "own" / "net.pth").exists()


def test_what_is_cached_besides_is_listed_and_removed_whole(hub, tmp_path, random_base):
    snapshot = tmp_path / "hub" / "models--someone--toys" / "snapshots" / COMMIT
    shutil.copytree(random_base, snapshot)
    (found,) = (model for model in list_models() if model.hub_id == "someone/toys")
    assert (found.kind, found.path) == ("base", snapshot)
    assert remove("someone/toys").size == found.size > 0
    assert not snapshot.exists()


def _publish(monkeypatch, file):
    """A condition called "mine" whose detector reads this file."""
    condition = Condition(
        name="mine", summary="", load_detector=lambda device, files: None, files={"net": file}
    )
    monkeypatch.setattr("cnctl.commands.models.listing._conditions", lambda: [condition])
