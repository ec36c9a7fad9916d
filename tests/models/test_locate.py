"""Bases at paths, in the hub's cache and by short names."""

from pathlib import Path

import pytest

from cnctl.errors import CnctlError, MissingError
from cnctl.models.families import load_base
from cnctl.models.locate import HUB_NAMES, default_base, locate_base


class TestLocateBase:
    def test_what_is_given(self, random_base: Path) -> None:
        assert locate_base(random_base).path == random_base
        assert locate_base(str(random_base)).name == "random"

    def test_the_hubs_cache(
        self, random_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        repository = fake_cache(tmp_path, "someone/some-base", random_base)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
        location = locate_base("someone/some-base")
        assert location.path == repository / "snapshots" / "abc"
        assert load_base("someone/some-base").name == "someone/some-base"

    def test_a_short_name(
        self, random_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
        with pytest.raises(MissingError, match="nor in the hub cache") as caught:
            locate_base("sd15")
        assert caught.value.hint == "fetch it with: cnctl models pull sd15"
        fake_cache(tmp_path, HUB_NAMES["sd15"][0], random_base)
        assert locate_base("sd15").name == "stable-diffusion-v1-5/stable-diffusion-v1-5"

    @pytest.mark.parametrize(
        ("source", "message", "hint"),
        [
            ("sd-15", "no base at 'sd-15'", "did you mean 'sd15'"),
            ("/no/such/place", "no base at '/no/such/place'", "short names are tiny"),
            ("someone/nothing", "neither a path nor in the hub cache", "cnctl models pull"),
            ("", "no base at ''", "short names"),
        ],
    )
    def test_nothing_there(self, source: str, message: str, hint: str) -> None:
        with pytest.raises(MissingError, match=message) as caught:
            locate_base(source)
        assert hint in caught.value.hint

    def test_a_folder_that_is_no_base(self, tmp_path: Path) -> None:
        with pytest.raises(CnctlError, match=r"is not a base: it has no model_index.json"):
            locate_base(tmp_path)

    def test_a_file_that_is_no_base(self, tmp_path: Path) -> None:
        (tmp_path / "model.gguf").write_bytes(b"GGUF" + bytes(60))
        with pytest.raises(CnctlError, match="is a GGUF file, whose quantised weights are not"):
            load_base(tmp_path / "model.gguf")

    def test_the_default_says_why(
        self, random_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
        location = default_base()
        assert location.name == "tiny"
        assert "cnctl models pull sd15" in location.reason
        fake_cache(tmp_path, HUB_NAMES["sd15"][0], random_base)
        assert "found in the hub cache" in default_base().reason


def fake_cache(cache: Path, hub_id: str, folder: Path) -> Path:
    """A repository in the hub's cache that holds this folder."""
    repository = cache / f"models--{hub_id.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("abc")
    (repository / "snapshots").mkdir()
    (repository / "snapshots" / "abc").symlink_to(folder)
    return repository
