"""Each case installs packages for real: dist-info folders on the path of a fresh process."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

GOOD = """
from cnctl.plugin import Condition
{name} = Condition(name="{name}", summary="The {name} one", load_detector=lambda device: None)
"""

BROKEN = {
    "raises": ("raise RuntimeError('no\\nluck')", "RuntimeError: no luck"),
    "leaves": ("import sys; sys.exit('goodbye')", "SystemExit: goodbye"),
    "needs": ("import no_such_package", "No module named 'no_such_package'"),
    "lacks": ("", "has no attribute 'lacks'"),
    "wrong": ("wrong = {'name': 'wrong'}", "is a dict, not a cnctl.plugin.Condition"),
    "renamed": (GOOD.format(name="other") + "renamed = other", "is named 'other', unlike"),
    "untyped": (
        GOOD.format(name="untyped").replace("device: None", "device: None, weights=None"),
        "has weights of type NoneType",
    ),
    "optioned": (
        GOOD.format(name="optioned").replace("device: None", "device: None, options={'a': 1}"),
        "has options['a'] of type int",
    ),
    "invalid": (GOOD.format(name="in valid").replace("in valid =", "invalid ="), "use a-z"),
}

MALFORMED = {
    "key given twice": b"[unrelated]\na = b:c\na = b:d\n",
    "text before a section": b"hello\n[unrelated]\na = b:c\n",
    "not UTF-8": b"[unrelated]\na = b:c\n# caf\xe9\n",
}


def install(folder, package, *, entries=(), modules=(), version="1.0", raw=None):
    info = folder / f"{package.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n")
    lines = [f"{name} = {value}\n" for name, value in dict(entries).items()]
    text = ("[cnctl.conditions]\n" + "".join(lines)).encode()
    (info / "entry_points.txt").write_bytes(text if raw is None else raw)
    for name, code in dict(modules).items():
        (folder / f"{name}.py").write_text(code)


def install_good(folder, package, name, **more):
    module = f"{package.replace('-', '_')}_module"
    entries, modules = {name: f"{module}:{name}"}, {module: GOOD.format(name=name)}
    install(folder, package, entries=entries, modules=modules, **more)


def start(*arguments, path, **variables):
    folders = [str(folder) for folder in ([path] if isinstance(path, Path) else path)]
    kept = {k: v for k, v in os.environ.items() if not k.startswith("CNCTL_")}
    paths = os.pathsep.join(filter(None, [*folders, kept.get("PYTHONPATH")]))
    return subprocess.Popen(
        [sys.executable, *arguments],
        env=kept | {"PYTHONPATH": paths} | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(*arguments, path, **variables):
    process = start(*arguments, path=path, **variables)
    output, errors = process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


def ask(code, *, path, **variables):
    """What the code prints as JSON, where it can use everything in the registry."""
    prelude = """
import json, sys
from cnctl.errors import CnctlError
from cnctl.registry import *
from cnctl.registry import look
"""
    result = run("-c", prelude + code, path=path, **variables)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def names(*, path, **variables):
    return ask("print(json.dumps(condition_names()))", path=path, **variables)


def error_of(name, *, path, **variables):
    code = f"""
try:
    get_condition({name!r})
except CnctlError as error:
    print(json.dumps([str(error), error.hint, error.exit_code]))
"""
    return ask(code, path=path, **variables)


def listing(*, path, **variables):
    """The lines on stdout, and those on stderr."""
    result = run("-m", "cnctl", "conditions", path=path, **variables)
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines(), result.stderr.splitlines()


def test_names_come_from_metadata_alone(tmp_path):
    install(tmp_path, "bomb", entries={"bomb": "bomb_module:bomb"}, modules={"bomb_module": "1/0"})
    code = "print(json.dumps([condition_names(), sorted(sys.modules)]))"
    found, modules = ask(code, path=tmp_path)
    assert {"bomb", "canny"} <= set(found)
    unwanted = {"bomb_module", "cnctl_conditions.canny", "numpy", "torch", "importlib.metadata"}
    assert not unwanted & set(modules)


def test_names_are_those_that_the_standard_library_finds(tmp_path):
    install_good(tmp_path, "cnctl-red", "red")
    code = """
import importlib.metadata
theirs = {point.name for point in importlib.metadata.entry_points(group="cnctl.conditions")}
print(json.dumps([condition_names(), sorted(theirs)]))
"""
    ours, theirs = ask(code, path=tmp_path)
    assert ours == theirs


def test_an_entry_says_who_provides_it(tmp_path):
    install_good(tmp_path, "Red_Things", "red", version="2.1")
    code = """
entry = next(entry for entry in list_conditions() if entry.name == "red")
fields = [entry.value, entry.distribution, entry.version, entry.summary, entry.module]
print(json.dumps(fields))
"""
    value, module = "Red_Things_module:red", "Red_Things_module"
    assert ask(code, path=tmp_path) == [value, "red-things", "2.1", "The red one", module]


def test_broken_plugins_take_a_line_each_and_break_nothing_else(tmp_path):
    for name, (code, _) in BROKEN.items():
        modules = {f"{name}_module": "print('hello')\n" + code}
        install(tmp_path, f"p-{name}", entries={name: f"{name}_module:{name}"}, modules=modules)
    install_good(tmp_path, "p-fine", "fine")
    lines, problems = listing(path=tmp_path)
    for name, (_, reason) in BROKEN.items():
        (line,) = [line for line in problems if f"'{name}'" in line]
        assert reason in line
        assert f"p-{name} 1.0" in line
    assert not {"hello"} & {*lines, *problems}
    assert not [line for line in lines if "\t" not in line]
    assert {"canny", "fine"} <= {line.split("\t")[0] for line in lines}


def test_a_broken_plugin_that_is_asked_for_gives_the_reason(tmp_path):
    for name in ("leaves", "needs"):
        modules = {f"{name}_module": BROKEN[name][0]}
        install(tmp_path, f"p-{name}", entries={name: f"{name}_module:{name}"}, modules=modules)
    message, hint, code = error_of("leaves", path=tmp_path)
    assert message == "condition 'leaves' (p-leaves 1.0) failed to import: SystemExit: goodbye"
    assert "p-leaves" in hint
    assert code == 2
    assert error_of("needs", path=tmp_path)[2] == 4


ENDING = {
    "exits": ("import ctypes; ctypes.CDLL(None)._exit(0)", "ended the process (exit code 0)"),
    "interrupts": ("raise KeyboardInterrupt", "ended the process"),
    "aborts": ("import os; os.abort()", "ended the process (SIGABRT)"),
    "hangs": ("import time; time.sleep(600)", "took longer than 3 seconds"),
    "hangs-deaf": (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)",
        "took longer than 3 seconds",
    ),
}
LINGERING = (
    GOOD.format(name="lingers")
    + """
import atexit, subprocess, sys, threading, time
threading.Thread(target=time.sleep, args=(600,)).start()
atexit.register(time.sleep, 600)
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
"""
)


def test_plugins_that_hang_or_end_the_process_are_named_and_the_others_listed(tmp_path):
    for name, (code, _) in ENDING.items():
        module = f"{name.replace('-', '_')}_module"
        install(tmp_path, f"p-{name}", entries={name: f"{module}:it"}, modules={module: code})
    install(
        tmp_path,
        "p-lingers",
        entries={"lingers": "lingers_module:lingers"},
        modules={"lingers_module": LINGERING},
    )
    code = """
entries = look.list_conditions(seconds=3.0)
print(json.dumps({entry.name: [entry.problem, entry.summary] for entry in entries}))
"""
    found = ask(code, path=tmp_path)
    for name, (_, reason) in ENDING.items():
        module = f"{name.replace('-', '_')}_module"
        start = f"condition '{name}' (p-{name} 1.0) failed to import: {module} {reason}"
        assert found[name][0].startswith(start)
    assert found["lingers"] == ["", "The lingers one"]
    assert found["canny"] == ["", "Canny edges, white on black"]


@pytest.mark.slow
def test_a_plugin_in_use_that_ends_the_process_or_hangs_is_an_error(tmp_path):
    ending = {name: ENDING[name] for name in ("exits", "aborts", "hangs-deaf")}
    for name, (code, _) in ending.items():
        module = f"{name.replace('-', '_')}_module"
        install(tmp_path, f"p-{name}", entries={name: f"{module}:it"}, modules={module: code})
    code = f"""
from cnctl.registry import get
get.SECONDS, get.NOTICE_AFTER, errors = 3.0, 99, []
for name in {[*ending]!r}:
    try:
        get_condition(name)
    except CnctlError as error:
        errors.append(str(error))
print(json.dumps(errors))
"""
    for message, (_, reason) in zip(ask(code, path=tmp_path), ending.values(), strict=True):
        assert reason in message


def test_a_run_with_a_plugin_that_ends_the_process_makes_the_other_hints(tmp_path):
    modules = {"exits_module": ENDING["exits"][0]}
    install(tmp_path / "site", "exits", entries={"exits": "exits_module:it"}, modules=modules)
    Image.new("RGB", (64, 64)).save(tmp_path / "x.png")
    command = ["-m", "cnctl", "annotate", tmp_path / "x.png", "-o", tmp_path / "out"]
    result = run(*command, "--cond", "exits,canny", path=tmp_path / "site")
    assert result.returncode == 3
    assert "exits_module ended the process (exit code 0)" in result.stderr
    assert (tmp_path / "out" / "x-canny.png").is_file()


MOVES = """
import os, threading
def move():
    while True:
        os.chdir("/")
def load_detector(device):
    thread = threading.Thread(target=move, daemon=True)
    thread.start()
    thread.join(1)
    os.chdir("/")
    return lambda image: image
"""


def test_a_plugin_that_changes_the_working_folder_sends_no_output_elsewhere(tmp_path):
    good = GOOD.format(name="moves").replace("lambda device: None", "load_detector")
    install(tmp_path, "moves", entries={"moves": "m:moves"}, modules={"m": MOVES + good})
    Image.new("RGB", (64, 64)).save(tmp_path / "x.png")
    code = f"import os; os.chdir({str(tmp_path)!r}); import cnctl.cli; cnctl.cli.main()"
    command = ["annotate", "x.png", "--cond", "moves", "-o", "out"]
    result = run("-c", code, *command, path=tmp_path)
    assert result.stdout == "out/x-moves.png\n"
    assert (tmp_path / "out" / "x-moves.png").is_file()
    assert "PermissionError: the working folder belongs to the whole process" in result.stderr


@pytest.mark.slow
def test_ctrl_c_ends_the_wait_for_a_plugin_that_hangs(tmp_path):
    hang = f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))"
    modules = {"hangs_module": f"{hang}; time.sleep(600)"}
    install(tmp_path, "hangs", entries={"hangs": "hangs_module:it"}, modules=modules)
    code = "from cnctl.registry import get; get.NOTICE_AFTER = 0.1; import cnctl.cli as c; c.main()"
    process = start("-c", code, "annotate", "x.png", "--cond", "hangs", path=tmp_path)
    said = process.stderr.readline()
    while not ((tmp_path / "pid").exists() and (tmp_path / "pid").read_text()):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert process.communicate()[1] == "cnctl: interrupted\n"
    assert process.returncode == 130
    assert said == "still importing hangs_module, of condition 'hangs' (hangs 1.0); Ctrl-C stops\n"
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_a_mistyped_name_imports_no_plugin(tmp_path):
    modules = {"exits_module": "import ctypes; ctypes.CDLL(None)._exit(0)"}
    install(tmp_path, "exits", entries={"exits": "exits_module:exits"}, modules=modules)
    result = run("-m", "cnctl", "annotate", "--cond", "cany", "x.png", path=tmp_path)
    assert result.returncode == 2
    assert "unknown condition 'cany'; nearest is 'canny'" in result.stderr
    result = run("-m", "cnctl", "conditions", "exits", path=tmp_path)
    assert result.returncode == 2
    assert "exits_module ended the process (exit code 0)" in result.stderr


RICH = """
from cnctl.plugin import *
def call(*arguments, **named): pass
rich = Condition(
    name="rich", summary="All fields", load_detector=call, training_options=call, augment=call,
    flip=None, draw=call, from_maps=call, ground_truth=GroundTruth(name="{stem}.png", read=call),
    metric=Metric(name="own", score=call, higher_is_better=False), hint_channels=5, masked=True,
    files={"net": WeightFile(repo="a/b", filename="c.pth", size=3, commercial=False)},
    options={"a": Option(1, "how", choices=(1, 2)), "b": Option(0.5, minimum=0, maximum=1)},
    palette={"sky": (1, 2, 3)}, train=TrainDefaults(resolution=64, recipe="cook"),
    generate=GenerateDefaults(steps=7), base="c/d", licence="MIT", references=("one", "two"),
    weights=(Weights(source="e/f", family="SD 1.x", licence="MIT", control_type=2),),
)
"""


def test_what_another_package_states_arrives_whole(tmp_path):
    install(tmp_path, "rich", entries={"rich": "rich_m:rich"}, modules={"rich_m": RICH})
    code = """
from dataclasses import fields
entry, = [entry for entry in list_conditions() if entry.name == "rich"]
seen, real = entry.condition, get_condition("rich")
same = [each.name for each in fields(real)
        if getattr(real, each.name) == getattr(seen, each.name)]
callables = [each.name for each in fields(real) if callable(getattr(seen, each.name))]
print(json.dumps([same, callables, seen.metric.name, seen.ground_truth.name]))
"""
    same, callables, metric, truth = ask(code, path=tmp_path)
    real = {"load_detector", "training_options", "augment", "draw", "from_maps"}
    stated = {"name", "summary", "files", "options", "hint_channels", "masked", "palette", "train"}
    stated |= {"generate", "flip", "base", "weights", "licence", "references"}
    assert set(callables) == real
    assert set(same) == stated
    assert (metric, truth) == ("own", "{stem}.png")


@pytest.mark.slow
def test_control_characters_of_a_plugin_reach_no_terminal(tmp_path):
    good = GOOD.format(name="evil").replace("The evil one", "\\x1b[2J\\x9b31m\\u202eevil")
    bad = "raise RuntimeError('no \\x1b[31mluck\\x07')"
    modules = {"evil_m": good, "bad_m": bad}
    install(tmp_path, "p", entries={"evil": "evil_m:evil", "bad": "bad_m:bad"}, modules=modules)
    for words in (["conditions"], ["conditions", "evil"], ["conditions", "bad"], ["doctor"]):
        result = run("-m", "cnctl", *words, path=tmp_path, PYTHONUTF8="1")
        said = result.stdout + result.stderr
        assert r"\x1b[" in said
        assert not {"\x1b", "\x9b", "\x07", "\u202e"} & set(said)
    result = run("-m", "cnctl", "conditions", "evil", "--json", path=tmp_path, PYTHONUTF8="1")
    assert not {"\x1b", "\x9b", "\u202e"} & set(result.stdout)
    assert json.loads(result.stdout)["conditions"][0]["summary"] == "\x1b[2J\x9b31m\u202eevil"


@pytest.mark.slow
def test_a_value_that_is_no_module_is_a_broken_plugin(tmp_path):
    install(tmp_path, "odd", entries={"odd": "this is not : a value"})
    assert "canny" in names(path=tmp_path)
    (line,) = [line for line in listing(path=tmp_path)[1] if "'odd'" in line]
    assert "odd 1.0" in line


def test_a_stranger_cannot_take_the_name_of_a_built_in(tmp_path):
    install_good(tmp_path, "aaa-rival", "canny")
    code = 'print(json.dumps(get_condition("canny").load_detector.__module__))'
    assert ask(code, path=tmp_path) == "cnctl_conditions.canny"
    lines, problems = listing(path=tmp_path)
    assert any("aaa-rival 1.0" in line and "taken by cnctl" in line for line in problems)
    assert any(line.startswith("canny\t") and "cnctl" in line for line in lines)


@pytest.mark.slow
def test_two_strangers_with_one_name_are_told_apart_by_the_user(tmp_path):
    install_good(tmp_path, "one", "red")
    install_good(tmp_path, "two", "red")
    assert len([line for line in listing(path=tmp_path)[1] if "also claimed by" in line]) == 2
    message, hint, _ = error_of("red", path=tmp_path)
    assert "one 1.0" in message
    assert "two 1.0 (two_module:red)" in message
    assert "CNCTL_PLUGINS" in hint
    code = 'print(json.dumps(get_condition("red").load_detector.__module__))'
    assert ask(code, path=tmp_path, CNCTL_PLUGINS="two") == "two_module"


def test_one_package_found_twice_is_one(tmp_path):
    first, second, third = tmp_path / "first", tmp_path / "second", tmp_path / "third"
    install_good(first, "my-red", "red", version="2.0")
    install_good(second, "my-red", "red", version="1.0")
    install(third, "My.Red", entries={"red": "my_red_module:red"})
    rows = [line for line in listing(path=[first, second, third])[0] if line.startswith("red\t")]
    assert rows == ["red\tThe red one\tnot stated\tready\tnone\tmy-red 2.0"]


@pytest.mark.parametrize("raw", MALFORMED.values(), ids=MALFORMED)
def test_malformed_metadata_of_an_unrelated_package_costs_one_note(tmp_path, raw):
    install_good(tmp_path, "my-red", "red")
    install(tmp_path, "unrelated", raw=raw)
    result = run("-m", "cnctl", "conditions", path=tmp_path, PYTHONUTF8="1")
    assert {"canny", "red"} <= {line.split("\t")[0] for line in result.stdout.splitlines()}
    assert "my-red 1.0" in result.stdout
    assert result.stderr.count("metadata is malformed") == 1
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("allowed", "left"),
    [("", []), ("red", ["red"]), ("cnctl", ["canny"]), ("my_red , canny", ["canny", "red"])],
)
def test_cnctl_plugins_limits_what_is_loaded(tmp_path, allowed, left):
    install_good(tmp_path, "my-red", "red")
    found = names(path=tmp_path, CNCTL_PLUGINS=allowed)
    assert [name for name in found if name in ("canny", "red")] == left


def test_a_name_left_out_by_cnctl_plugins_says_so(tmp_path):
    message, hint, _ = error_of("canny", path=tmp_path, CNCTL_PLUGINS="")
    assert "CNCTL_PLUGINS='' excludes it" in message
    assert "unset" in hint


def test_an_unknown_name_gives_the_nearest(tmp_path):
    message, hint, code = error_of("cany", path=tmp_path)
    assert "unknown condition 'cany'" in message
    assert "'canny'" in message
    assert "canny" in hint
    assert code == 2
    assert "nearest" not in error_of("zzzzzz", path=tmp_path)[0]
