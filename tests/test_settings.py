"""Where a value comes from: flag, environment, config file, base, condition, built-in."""

from pathlib import Path

import pytest

from cnctl.errors import CnctlError
from cnctl.settings import GenerateSettings, TrainSettings, read_config, resolve

SOURCES = {
    "flags": {"steps": 1},
    "environ": {"CNCTL_GENERATE_STEPS": "2"},
    "config": {"generate": {"steps": 3}},
}


@pytest.mark.parametrize(
    ("absent", "expected"),
    [
        ((), 1),
        (("flags",), 2),
        (("flags", "environ"), 3),
        (("flags", "environ", "config"), 4),
    ],
)
def test_first_source_that_gives_a_value_wins(absent: tuple[str, ...], expected: int) -> None:
    sources = {name: {} if name in absent else value for name, value in SOURCES.items()}
    assert resolve(GenerateSettings, {"steps": 4}, {"steps": 5}, **sources).steps == expected


def test_defaults_are_taken_in_order_then_the_papers() -> None:
    nothing: dict = {"flags": {"steps": None}, "config": {}, "environ": {}}
    settings = resolve(
        GenerateSettings, {"guidance_scale": 3.0}, {"guidance_scale": 7.0}, **nothing
    )
    assert (settings.guidance_scale, settings.steps) == (3.0, 20)
    assert resolve(GenerateSettings, **nothing).guidance_scale == 9.0


def test_environment_of_the_wrong_type_is_named() -> None:
    with pytest.raises(CnctlError, match="CNCTL_GENERATE_STEPS='many' is not a whole number"):
        resolve(GenerateSettings, flags={}, config={}, environ={"CNCTL_GENERATE_STEPS": "many"})


def test_config_file_beats_pyproject(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))
    (tmp_path / "pyproject.toml").write_text(
        "[tool.cnctl.generate]\nsteps = 7\nscheduler = 'unipc'\n"
    )
    (tmp_path / "cnctl.toml").write_text("base = 'tiny'\n[generate]\nsteps = 8\n")
    merged = {"base": "tiny", "generate": {"steps": 8, "scheduler": "unipc"}}
    assert read_config(tmp_path) == merged


@pytest.mark.parametrize(
    ("table", "message"),
    [({"stpes": 3}, "'stpes'"), ({"steps": "many"}, "steps = 'many'"), ({"steps": True}, "True")],
)
def test_a_wrong_key_or_value_in_the_config_file_is_named(table: dict, message: str) -> None:
    with pytest.raises(CnctlError, match=message):
        resolve(GenerateSettings, flags={}, config={"generate": table}, environ={})


def test_what_is_set_for_one_command_leaves_the_others_alone() -> None:
    sources: dict = {
        "flags": {},
        "config": {"generate": {"resolution": 64}},
        "environ": {"CNCTL_GENERATE_STEPS": "2"},
    }
    assert resolve(TrainSettings, **sources) == TrainSettings()


def test_broken_config_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "cnctl.toml").write_text("steps = = 8")
    with pytest.raises(CnctlError, match=r"cnctl\.toml is not valid TOML"):
        read_config(tmp_path)


def test_switches_are_read_from_words() -> None:
    def compiled(**sources: dict) -> bool:
        return resolve(TrainSettings, flags={}, **{"config": {}, "environ": {}} | sources).compile

    assert compiled(config={"train": {"compile": True}})
    assert compiled(environ={"CNCTL_TRAIN_COMPILE": "yes"})
    assert not compiled(environ={"CNCTL_TRAIN_COMPILE": "0"})
    with pytest.raises(CnctlError, match="CNCTL_TRAIN_COMPILE='maybe' is not true or false"):
        compiled(environ={"CNCTL_TRAIN_COMPILE": "maybe"})
    with pytest.raises(CnctlError, match="compile = 1"):
        compiled(config={"train": {"compile": 1}})
