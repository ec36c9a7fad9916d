"""`cnctl conditions` as a user runs it, with plugins that pip installed for real."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cnctl.commands.conditions.new import new_condition

EXAMPLE = Path(__file__).parents[2] / "examples" / "cnctl-blur"

HEAVY = """
import numpy as np
from cnctl.plugin import Condition
print("hello")
heavy = Condition(name="heavy", summary="", load_detector=lambda device: lambda image: image)
"""


def run(*arguments, path=None, **variables):
    """`cnctl ...` in its own process, with the packages in `path`."""
    paths = os.pathsep.join(filter(None, [path and str(path), os.environ.get("PYTHONPATH")]))
    return subprocess.run(
        [sys.executable, "-m", "cnctl", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": paths, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="session")
def written(tmp_path_factory):
    """The package that `cnctl conditions new two-tone` writes."""
    folder = tmp_path_factory.mktemp("written")
    result = run("conditions", "new", "two-tone", "-o", folder / "deep")
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == [str(folder / "deep" / "cnctl-two-tone")]
    return Path(result.stdout.strip())


@pytest.fixture(scope="session")
def site(tmp_path_factory, written):
    """A folder where pip has installed the example, the written package, and a bad one is."""
    site = tmp_path_factory.mktemp("site")
    example = shutil.copytree(EXAMPLE, tmp_path_factory.mktemp("example") / "cnctl-blur")
    quiet = ["-q", "--disable-pip-version-check", "--no-cache-dir", "--no-compile"]
    offline = ["--no-deps", "--no-build-isolation", "--target", site]
    pip = [sys.executable, "-m", "pip", "install", *quiet, *offline, example, written]
    subprocess.run(pip, check=True, capture_output=True, text=True)
    info = site / "cnctl_heavy-3.0.dist-info"
    info.mkdir()
    (info / "entry_points.txt").write_text("[cnctl.conditions]\nheavy = heavy_module:heavy\n")
    (site / "heavy_module.py").write_text(HEAVY)
    return site


def test_installed_strangers_are_listed_like_built_ins(site):
    result = run("conditions", path=site)
    rows = [line.split("\t") for line in result.stdout.splitlines()]
    assert [
        "blur",
        "Colours without detail",
        "Apache-2.0",
        "ready",
        "none",
        "cnctl-blur 0.1.0",
    ] in rows
    assert [row[-1] for row in rows if row[0] == "two-tone"] == ["cnctl-two-tone 0.1.0"]
    assert [row[:3] for row in rows if row[0] == "canny"] == [
        ["canny", "Canny edges, white on black", "Apache-2.0"]
    ]


def test_one_condition_whole(cnctl, site):
    lines = run("conditions", "blur", path=site).stdout.splitlines()
    assert lines[0] == "blur: Colours without detail"
    assert "  radius=8  1 to 64  of the blur, in pixels" in lines
    assert any("cnctl-blur 0.1.0 (cnctl_blur:blur)" in line for line in lines)
    lines = "\n".join(cnctl("conditions", "canny").stdout.splitlines())
    for words in ("low_threshold=100", "hint channels  3", "3M edge-image", "tiny/canny", "1986"):
        assert words in lines


def test_json_is_one_document(cnctl, site):
    document = json.loads(run("conditions", "--json", path=site).stdout)
    by_name = {about["name"]: about for about in document["conditions"]}
    assert by_name["blur"]["summary"] == "Colours without detail"
    assert by_name["blur"]["options"]["radius"]["default"] == 8
    assert by_name["blur"]["distribution"] == "cnctl-blur"
    families = {weights["source"]: weights["family"] for weights in by_name["canny"]["weights"]}
    assert families["tiny/canny"] == "tiny"
    one = json.loads(cnctl("conditions", "canny", "--json").stdout)["conditions"]
    assert one == [by_name["canny"]]


def test_check_passes_the_example_the_built_in_and_what_new_writes(site):
    result = run("conditions", "check", "blur", "canny", "two-tone", path=site)
    assert result.returncode == 0, result.stdout
    assert result.stdout == ""
    assert "blur meets the contract" in result.stderr


@pytest.mark.slow
def test_check_tells_faults_one_a_line_and_exits_with_2(site):
    result = run("conditions", "check", "heavy", "canny", path=site)
    assert result.returncode == 2
    assert result.stdout.splitlines() == [
        "heavy: heavy_module prints to stdout when it is imported",
        "heavy: heavy_module imports numpy at the top; import inside load_detector",
        "heavy: summary must be one line of text",
    ]
    assert "canny meets the contract" in result.stderr
    document = json.loads(run("conditions", "check", "heavy", "--json", path=site).stdout)
    assert len(document["conditions"][0]["problems"]) == 3


def test_check_of_a_plugin_that_does_not_import(tmp_path):
    info = tmp_path / "bad-1.0.dist-info"
    info.mkdir()
    (info / "entry_points.txt").write_text("[cnctl.conditions]\nbad = no_such_module:bad\n")
    result = run("conditions", "check", "bad", path=tmp_path)
    assert result.returncode == 2
    assert "failed to import" in result.stdout
    assert len(result.stdout.splitlines()) == 1


@pytest.mark.slow
def test_check_without_the_detectors_weights_names_the_command_and_exits_with_4(tmp_path):
    environment = {"HF_HUB_CACHE": str(tmp_path), "CNCTL_DETECTORS": str(tmp_path)}
    result = run("conditions", "check", "hed", "canny", **environment)
    assert result.returncode == 4
    assert result.stdout == ""
    missing, met = result.stderr.splitlines()
    assert "hed needs ControlNetHED.pth of lllyasviel/Annotators" in missing
    assert "cnctl models pull hed" in missing
    assert met == "canny meets the contract"


@pytest.mark.slow
def test_both_packages_pass_their_own_tests(site, written):
    folders = [EXAMPLE / "tests", written / "tests"]
    quiet = ["-q", "-p", "no:cacheprovider", "-c", os.devnull]
    result = subprocess.run(
        [sys.executable, "-m", "pytest", *quiet, *folders],
        env={**os.environ, "PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout
    assert "4 passed" in result.stdout


def test_new_writes_what_the_example_shows(written):
    def files(folder):
        paths = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
        return {str(path) for path in paths if "__pycache__" not in path.parts}

    renamed = {path.replace("two_tone", "blur") for path in files(written)}
    assert renamed == files(EXAMPLE)
    assert "{{" not in "".join((written / path).read_text() for path in files(written))


@pytest.mark.parametrize(
    ("name", "code"),
    [("Bad Name", 2), ("canny", 2), ("check", 2), ("3d", 2), ("../x", 2), ("mine-", 2)],
)
def test_new_refuses_names_that_cannot_be_used(cnctl, tmp_path, name, code):
    result = cnctl("conditions", "new", name, "-o", tmp_path)
    assert result.returncode == code
    assert len(result.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_new_says_how_to_install_what_it_wrote(cnctl, tmp_path):
    (tmp_path / "a folder").mkdir()
    for folder, shown in (
        (".", "./cnctl-mine"),
        ("a folder", "'./a folder/cnctl-mine'"),
        (tmp_path / "b", f"{tmp_path}/b/cnctl-mine"),
    ):
        result = cnctl("conditions", "new", "mine", "-o", folder)
        assert result.stderr == f"next: pip install {shown} && cnctl conditions check mine\n"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["class", "np", "load-detector", "check_condition"])
def test_what_new_writes_passes_its_tests_under_a_name_that_python_or_it_uses(tmp_path, name):
    package = new_condition(name, folder=tmp_path)
    quiet = ["-q", "-p", "no:cacheprovider", "-c", os.devnull]
    result = subprocess.run(
        [sys.executable, "-m", "pytest", *quiet, package / "tests"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(package), *sys.path])},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "2 passed" in result.stdout, result.stdout


def test_new_keeps_what_exists(cnctl, tmp_path):
    (tmp_path / "cnctl-mine").mkdir()
    (tmp_path / "file").write_text("")
    assert cnctl("conditions", "new", "mine").returncode == 6
    assert cnctl("conditions", "new", "mine", "-o", "file").returncode == 6
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["cnctl-mine", "file"]


@pytest.mark.parametrize("words", [["new"], ["check"], ["new", "a", "b"], ["canny", "blur"]])
def test_words_that_make_no_sense_are_a_usage_error(cnctl, words):
    result = cnctl("conditions", *words)
    assert result.returncode == 2
    assert "is not understood" in result.stderr


def test_an_unknown_name_is_one_line_with_the_nearest(cnctl):
    for words in (["cany"], ["check", "cany"]):
        result = cnctl("conditions", *words)
        assert result.returncode == 2
        assert len(result.stderr.splitlines()) == 1
        assert "'canny'" in result.stderr


def test_a_terminal_gets_tables_of_what_is_ready_and_what_is_not(terminal):
    lines = terminal("conditions", columns=120).splitlines()
    assert lines[0].split() == ["Ready"]
    assert lines[1].split() == ["name", "summary", "ControlNets", "licence"]
    missing = next(at for at, line in enumerate(lines) if "cnctl models pull NAME" in line)
    names = [line.split()[0] for line in lines if line[:1].strip()]
    assert names.index("canny") < missing
    assert not any("\t" in line or len(line) > 120 for line in lines)
    assert any("Canny edges, white on black" in line for line in lines)


def test_a_detector_that_needs_an_option_is_not_ready(terminal, cnctl):
    others, _, needing = terminal("conditions", columns=120).partition("needs an option")
    assert "openpifpaf" in needing
    assert "openpifpaf" not in others
    (row,) = [line for line in cnctl("conditions").stdout.splitlines() if "openpifpaf" in line]
    assert row.split("\t")[3] == "option"


def test_help_shows_the_four_uses(cnctl):
    text = cnctl("conditions", "--help").stdout
    for words in ("conditions canny", "conditions new NAME", "conditions check NAME", "--json"):
        assert words in text
