"""`cnctl models` as a person and as a program reads it."""

import json

import pytest


@pytest.fixture(autouse=True)
def empty_hub(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


def test_a_pipe_gets_one_line_of_eight_columns_for_each_model(cnctl):
    rows = [line.split("\t") for line in cnctl("models").stdout.splitlines()]
    assert {len(row) for row in rows} == {8}
    by_name = {row[1]: row for row in rows}
    assert len(by_name) == len(rows)
    kind, _, family, conditions, state, size, licence, where = by_name["tiny/hed"]
    assert (kind, family, state, licence) == ("control", "tiny", "installed", "Apache-2.0")
    assert {"hed", "lineart"} <= set(conditions.split(","))
    assert int(size) == pytest.approx(6.7e6, rel=0.1)
    assert where.endswith("controls/hed")
    assert by_name["sdxl"][4:] == [
        "missing",
        "",
        "CreativeML OpenRAIL++-M",
        "cnctl models pull sdxl",
    ]


def test_a_terminal_gets_tables_by_kind_with_the_installed_first(terminal):
    shown = terminal("models", columns=72)
    lines = shown.splitlines()
    assert [line.split()[0] for line in lines[:4]] == ["Bases", "name", "tiny", "tiny-flow"]
    titles = ["Bases", "ControlNets for SD 1.x", "ControlNets for SDXL", "Detectors", "Captioners"]
    assert [shown.index(title) for title in titles] == sorted(map(shown.index, titles))
    assert "18 of " in lines[-2]
    assert "101 MB on disk" in lines[-2]
    assert max(len(line) for line in lines if not line.startswith("tiny: ")) <= 72


def test_filters(cnctl):
    def names(*flags):
        return [line.split("\t")[1] for line in cnctl("models", *flags).stdout.splitlines()]

    assert names("--family", "sdxl", "--cond", "canny") == [
        "sdxl_union_xinsir",
        "sdxl_canny",
        "sdxl_canny_xinsir",
    ]
    assert names("--family", "flux-dev") == names("--family", "FLUX") != []
    assert names("--installed", "--cond", "hed") == ["tiny/hed"]
    assert "families are" in cnctl("models", "--family", "midjourney").stderr
    assert cnctl("models", "--cond", "cany").returncode == 2


def test_json_says_all_and_the_total(cnctl):
    document = json.loads(cnctl("models", "--installed", "--json").stdout)
    tiny, flow, *others = document["models"]
    assert [(one["name"], one["installed"]) for one in (tiny, flow)] == [
        ("tiny", True),
        ("tiny-flow", True),
    ]
    # The ControlNets lie in their folders.
    assert document["size"] == tiny["size"] + flow["size"] > sum(one["size"] for one in others)


def test_options_before_a_command_are_refused(cnctl):
    result = cnctl("models", "--json", "pull", "tiny")
    assert result.returncode == 2
    assert "options go after `pull`" in result.stderr


def test_remove_of_what_is_not_in_the_cache(cnctl):
    assert "comes with cnctl" in cnctl("models", "remove", "tiny").stderr
    missing = cnctl("models", "remove", "sd15")
    assert missing.returncode == 4
    assert "'sd15' is not installed" in missing.stderr
