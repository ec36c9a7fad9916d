"""Names of devices and precisions, and what is picked where none is named."""

import pytest
import torch

from cnctl.errors import CnctlError, DeviceError
from cnctl.models.device import pick_device, pick_dtype


class TestDeviceAndPrecision:
    def test_defaults(self) -> None:
        device = pick_device(None)
        available = torch.cuda.is_available() or torch.backends.mps.is_available()
        assert (device.type == "cpu") == (not available)
        assert pick_dtype(torch.device("cpu"), None) == torch.float32
        assert pick_dtype(torch.device("mps"), None) == torch.float32

    @pytest.mark.parametrize("name", ["tpu3", "meta", "", "cuda:x"])
    def test_unknown_device(self, name: str) -> None:
        with pytest.raises(CnctlError, match="unknown device"):
            pick_device(name)

    def test_no_cuda(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
        with pytest.raises(DeviceError, match="there is no device cuda: torch sees 0 CUDA devices"):
            pick_device("cuda")

    def test_no_mps(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
        with pytest.raises(DeviceError, match="there is no device mps"):
            pick_device("mps")

    def test_names(self) -> None:
        cpu = torch.device("cpu")
        assert pick_dtype(cpu, "bf16") == pick_dtype(cpu, torch.bfloat16) == torch.bfloat16
        with pytest.raises(CnctlError, match="unknown dtype 'int8'"):
            pick_dtype(cpu, "int8")

    @pytest.mark.parametrize(("has_bf16", "dtype"), [(True, "bfloat16"), (False, "float16")])
    def test_cuda_is_picked_with_the_half_precision_that_it_has(
        self, monkeypatch: pytest.MonkeyPatch, has_bf16: bool, dtype: str
    ) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: has_bf16)
        assert pick_device(None) == torch.device("cuda")
        assert pick_dtype(torch.device("cuda"), None) == getattr(torch, dtype)
