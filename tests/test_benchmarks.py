"""Benchmarks are run by hand; that what they import is still there is tested."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from diffusers import SD3ControlNetModel, SD3Transformer2DModel

FOLDER = Path(__file__).parent / "benchmarks"
BENCHMARKS = sorted(path for path in FOLDER.glob("*.py") if "\ndef main(" in path.read_text())


def imported(path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(FOLDER)  # as for a script that is run
    spec = importlib.util.spec_from_file_location(f"benchmark_{path.stem}", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.stem)
def test_a_benchmark_can_be_started(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = imported(path, monkeypatch)
    assert callable(module.main)
    assert str(path.relative_to(Path(__file__).parents[1])) in (module.__doc__ or "")


def test_sizes_of_transformers_are_counted(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On a base of fewer layers than the published one, held to diffusers' own classes."""
    module = imported(FOLDER / "transformer_sizes.py", monkeypatch)
    case = module.CASES[0]._replace(config=module.CASES[0].config | {"num_layers": 4})
    monkeypatch.setattr(module, "CASES", (case,))
    module.main()
    with torch.device("meta"):
        base = SD3Transformer2DModel(**case.config)
        copy = SD3ControlNetModel.from_transformer(
            base, num_layers=2, load_weights_from_transformer=False
        )
    counts = [sum(p.numel() for p in network.parameters()) for network in (base, copy)]
    [sampling, training] = [
        line for line in capsys.readouterr().out.splitlines() if line.startswith(case.name)
    ]
    assert [f"{count / 1e9:.2f}" for count in counts] == sampling.removeprefix(case.name).split()[
        :3:2
    ]
    assert float(training.removeprefix(case.name).split()[0]) == round(2 * counts[0] / 1e9, 1)
