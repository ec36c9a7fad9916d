"""Where a value comes from: flag, environment, config file, base, condition, built-in."""

import re
from pathlib import Path

import pytest

from cnctl.errors import CnctlError
from cnctl.settings import CommonSettings, GenerateSettings, TrainSettings, read_config, resolve
from cnctl.settings.environment import describe_unread, is_on

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


def test_former_names_are_accepted_everywhere(tmp_path: Path) -> None:
    (tmp_path / "cnctl.toml").write_text("[train]\nunlock_after = 3\n")
    sources: dict = {"config": {}, "environ": {}, "flags": {}}
    for source in (
        {"flags": {"unlock_after": 3}},
        {"environ": {"CNCTL_TRAIN_UNLOCK_AFTER": "3"}},
        {"config": read_config(tmp_path)},
    ):
        assert resolve(TrainSettings, **sources | source).unfreeze_after == 3


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
    ("text", "message"),
    [
        ("[generate]\nstpes = 3", r"under \[generate\] has the unknown key 'stpes'.*steps"),
        ("bse = 'tiny'", "cnctl.toml has the unknown key 'bse'.*base"),
        ("[generte]\nsteps = 3", "cnctl.toml has the unknown table 'generte'.*generate"),
        ("train = 3", r"cnctl.toml has train = 3.*\[train\]"),
        ("[generate]\nsteps = 'many'", "steps in .* is 'many'.*a whole number"),
        ("[generate]\nsteps = true", "steps in .* is True"),
        ("[generate]\nsteps = 0", r"steps in .*\[generate\] is 0; it must be at least 1"),
        ("[train]\ncompile = 1", "compile in .* is 1.*true or false"),
    ],
)
def test_what_the_settings_file_may_not_say_is_named(
    text: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))
    (tmp_path / "cnctl.toml").write_text(text)
    with pytest.raises(CnctlError) as caught:
        read_config(tmp_path)
    assert re.search(message, f"{caught.value}; {caught.value.hint}")


def test_a_wrong_key_in_pyproject_is_named_with_its_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "none"))
    (tmp_path / "pyproject.toml").write_text("[tool.cnctl.train]\nlr = 1e-4")
    with pytest.raises(CnctlError, match=r"pyproject.toml under \[tool.cnctl.train\].*'lr'"):
        read_config(tmp_path)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"steps": 0}, "--steps is 0; it must be at least 1"),
        ({"learning_rate": 0.0}, "it must be more than 0 and less than 1"),
        ({"prompt_dropout": 1.5}, "it must be at least 0 and at most 1"),
        ({"snr_gamma": float("inf")}, "--snr-gamma is inf; it must be at least 0"),
        ({"max_grad_norm": float("nan")}, "--max-grad-norm is nan"),
        ({"seed": 2**63}, "it must be at least 0 and less than 2^63"),
        ({"method": "lora"}, "it must be controlnet or input-concat"),
        ({"on_convergence": "accumulate=1"}, "it must be continue, stop, or accumulate=N"),
    ],
)
def test_settings_out_of_range_do_not_exist(wrong: dict, message: str) -> None:
    with pytest.raises(CnctlError, match=re.escape(message)):
        TrainSettings(**wrong)


def test_the_ends_of_a_range_are_in_where_the_message_says_so() -> None:
    assert TrainSettings(prompt_dropout=1.0, ema=0.0, seed=2**63 - 1).prompt_dropout == 1


def test_a_value_out_of_range_in_the_environment_is_named() -> None:
    with pytest.raises(CnctlError, match=r"CNCTL_TRAIN_EMA is 1\.0; it must be at least 0"):
        resolve(TrainSettings, flags={}, config={}, environ={"CNCTL_TRAIN_EMA": "1"})


def test_settings_that_commands_share_have_variables_and_keys_too() -> None:
    def base(**sources: dict) -> str | None:
        return resolve(CommonSettings, flags={}, **{"config": {}, "environ": {}} | sources).base

    assert base() is None
    assert base(config={"base": "sd15"}) == "sd15"
    assert base(config={"base": "sd15"}, environ={"CNCTL_BASE": "sdxl"}) == "sdxl"


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
    (tmp_path / "cnctl.toml").write_text("steps = 8", encoding="utf-16")
    with pytest.raises(CnctlError, match=r"cnctl\.toml is not UTF-8 text"):
        read_config(tmp_path)


def test_switches_are_read_from_words() -> None:
    def compiled(**sources: dict) -> bool:
        return resolve(TrainSettings, flags={}, **{"config": {}, "environ": {}} | sources).compile

    assert compiled(config={"train": {"compile": True}})
    assert compiled(environ={"CNCTL_TRAIN_COMPILE": "yes"})
    assert not compiled(environ={"CNCTL_TRAIN_COMPILE": "0"})
    with pytest.raises(CnctlError, match="CNCTL_TRAIN_COMPILE='maybe' is not true or false"):
        compiled(environ={"CNCTL_TRAIN_COMPILE": "maybe"})


def test_variables_that_nothing_reads_are_named() -> None:
    known = ["CNCTL_BASE", "CNCTL_PLUGINS", "CNCTL_TRAIN_STEPS", "PATH"]
    wrong = ["CNCTL_ANOTATE_RESOLUTION", "CNCTL_PREVIEW_EVERY", "CNCTL_MINE"]
    assert [*describe_unread(dict.fromkeys([*known, *wrong], "1"))] == [
        "CNCTL_ANOTATE_RESOLUTION is not read; did you mean CNCTL_ANNOTATE_RESOLUTION?",
        "CNCTL_MINE is not read",
        "CNCTL_PREVIEW_EVERY is not read; did you mean CNCTL_TRAIN_PREVIEW_EVERY?",
    ]


def test_a_licence_guard_is_not_off_for_a_word_that_is_not_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for text, expected in (("on", True), ("0", False), ("", False)):
        monkeypatch.setenv("CNCTL_COMMERCIAL", text)
        assert is_on("CNCTL_COMMERCIAL") is expected
    monkeypatch.setenv("CNCTL_COMMERCIAL", "ja")
    with pytest.raises(CnctlError, match="CNCTL_COMMERCIAL='ja' is neither yes nor no"):
        is_on("CNCTL_COMMERCIAL")
