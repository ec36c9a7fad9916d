"""accelerate as a run configures it: one process, several with full weights, or sharded weights.

Which of them stands in the environment, where `accelerate launch --config_file` puts it.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
from collections.abc import Sequence
from typing import Any

import torch
from accelerate import Accelerator, DeepSpeedPlugin, FullyShardedDataParallelPlugin
from accelerate.state import AcceleratorState, GradientState, PartialState
from accelerate.utils import DistributedType, fsdp2_prepare_model, is_deepspeed_available
from torch import nn
from torch.distributed.fsdp import MixedPrecisionPolicy
from torch.distributed.tensor import DTensor
from transformers.integrations import unset_hf_deepspeed_config

from cnctl.errors import CnctlError, DeviceError, MissingError, ReportedByOtherRank
from cnctl.models.base import Base
from cnctl.models.device import pick_device
from cnctl.settings import TrainSettings
from cnctl.system.processes import rank

PRECISIONS = {torch.float32: "no", torch.bfloat16: "bf16", torch.float16: "fp16"}


def may_shard() -> bool:
    """Whether the environment asks for sharded weights or a sharded optimizer state."""
    return wants_fsdp() or wants_deepspeed()


def wants_fsdp() -> bool:
    """Whether the environment asks for FSDP."""
    return os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true"


def wants_deepspeed() -> bool:
    """Whether the environment asks for DeepSpeed."""
    return os.environ.get("ACCELERATE_USE_DEEPSPEED", "").lower() == "true"


def load_deepspeed(device: str | None) -> None:
    """Import DeepSpeed where it is asked for, before accelerate does; MissingError if absent."""
    if not wants_deepspeed():
        return
    if not is_deepspeed_available():
        error = MissingError(
            "the configuration asks for DeepSpeed, which is not installed",
            hint="pip install deepspeed, or use another configuration",
        )
        raise ReportedByOtherRank(str(error), exit_code=error.exit_code) if rank() else error
    kind = pick_device(device).type
    os.environ["DS_ACCELERATOR"] = kind
    # DeepSpeed logs to the current standard output; ours is for paths.
    with contextlib.redirect_stdout(sys.stderr):
        import deepspeed
    if kind == "cpu":
        # It would compile an exchange through shared memory, a minute's work; gloo's will do.
        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False


def check_sharding(
    settings: TrainSettings, dtype: torch.dtype, step: int, *, runs_base_layers: bool
) -> None:
    """CnctlError where what the environment asks for does not go with the settings.

    runs_base_layers: see `Network`.
    """
    if not may_shard():
        return
    if dtype == torch.float16 or settings.optimizer != "adamw":
        raise CnctlError(
            "FSDP and DeepSpeed need AdamW and float32 or bfloat16",
            hint="leave out --optimizer, and --dtype or give bfloat16",
        )
    if wants_fsdp() and FullyShardedDataParallelPlugin().fsdp_version != 2:
        raise CnctlError(
            "FSDP 1 is not supported, because it loses the names of weights",
            hint="set fsdp_version: 2 in the configuration",
        )
    if wants_deepspeed():
        _check_deepspeed(settings, step)
    shards_weights = wants_fsdp() or _zero_stage() == 3
    if settings.unfreeze_after and runs_base_layers and shards_weights:
        raise CnctlError(
            "this ControlNet runs layers of its base, which FSDP and ZeRO 3 gather only when the "
            "base runs",
            hint="use ZeRO 2, or leave out --unfreeze-after",
        )


def _check_deepspeed(settings: TrainSettings, step: int) -> None:
    config = DeepSpeedPlugin().deepspeed_config
    for name in ("optimizer", "scheduler"):
        if name in config:
            raise CnctlError(
                f"DeepSpeed's configuration names its own {name}",
                hint="leave it out: the flags of cnctl train set it",
            )
    stage = _zero_stage()
    if stage == 0:
        raise CnctlError(
            "ZeRO 0 shards nothing and does not report the norm of gradients",
            hint="use ZeRO 1, 2 or 3, or launch without DeepSpeed",
        )
    if settings.ema and stage == 3:
        raise CnctlError(
            "EMA does not work with the sharded weights of ZeRO 3",
            hint="use ZeRO 2 or FSDP, or leave out --ema",
        )
    if step < settings.unfreeze_after:
        raise CnctlError(
            "DeepSpeed cannot add weights during a run, as --unfreeze-after does",
            hint=f"train {settings.unfreeze_after} steps without it, then run it with --resume "
            f"--unfreeze-after {settings.unfreeze_after} and more --steps",
        )


def _zero_stage() -> int:
    return int(DeepSpeedPlugin().deepspeed_config["zero_optimization"]["stage"])


def make_accelerator(base: Base, settings: TrainSettings) -> Accelerator:
    """One for this run, by its settings and the environment."""
    on_cpu = base.device.type == "cpu"
    if on_cpu and base.dtype == torch.float16:
        raise DeviceError("float16 does not train on the CPU", hint="use --dtype float32")
    # accelerate keeps the state of the process's first run for all others.
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()
    PartialState(cpu=on_cpu)
    precision = PRECISIONS[base.dtype]
    accelerator = _of_kind(base, settings, mixed_precision=precision, device_placement=False)
    # By an attribute, because a launcher may say another number by the environment.
    accelerator.gradient_accumulation_steps = settings.gradient_accumulation
    return accelerator


def _of_kind(base: Base, settings: TrainSettings, **common: Any) -> Accelerator:
    on_cpu = base.device.type == "cpu"
    if wants_deepspeed():
        plugin = DeepSpeedPlugin()
        plugin.deepspeed_config |= _deepspeed_config(base, settings)
        # With cpu=True accelerate would leave DeepSpeed out.
        common["mixed_precision"] = "no"
        accelerator = Accelerator(deepspeed_plugins=plugin, cpu=False, **common)
        # Else transformers would read the next text encoder in parts.
        unset_hf_deepspeed_config()
        return accelerator
    if wants_fsdp():
        policy = MixedPrecisionPolicy(param_dtype=base.dtype, reduce_dtype=torch.float32)
        # Each process has read the weights, and what reads them for it knows no buffers.
        plugin = FullyShardedDataParallelPlugin(
            mixed_precision_policy=policy, cpu_ram_efficient_loading=False
        )
        accelerator = Accelerator(fsdp_plugin=plugin, cpu=on_cpu, **common)
        if torch.distributed.is_initialized():
            # accelerate shards on GPUs only, torch on the CPU too.
            PartialState().distributed_type = DistributedType.FSDP
            accelerator.state.distributed_type = DistributedType.FSDP
            accelerator.state.fsdp_plugin = plugin
        return accelerator
    return Accelerator(cpu=on_cpu, **common)


def _deepspeed_config(base: Base, settings: TrainSettings) -> dict[str, Any]:
    """The keys that follow from cnctl's settings; they override the configuration."""
    half = {"enabled": base.dtype == torch.bfloat16, "dtype": "bfloat16"}
    return {
        "train_micro_batch_size_per_gpu": settings.batch_size,
        "gradient_accumulation_steps": settings.gradient_accumulation,
        "train_batch_size": settings.effective_batch,
        "gradient_clipping": settings.max_grad_norm,
        "bf16": {"enabled": False},
        "fp16": {"enabled": False},
        "torch_autocast": half,
    }


def release(accelerator: Accelerator, *modules: nn.Module) -> None:
    """Drop the references to the process group that would outlive these modules."""
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        accelerator.free_memory()
    for parameter in itertools.chain(*(module.parameters() for module in modules)):
        if isinstance(parameter, DTensor):
            # torch keeps device meshes in caches.
            getattr(parameter.device_mesh, "_pg_registry", {}).clear()


def shard(accelerator: Accelerator, module: nn.Module, *, blocks: Sequence[str]) -> None:
    """Shard its weights in place where FSDP is asked for; this replaces its parameters.

    blocks: classes of blocks that are gathered one by one, besides those that the configuration
    names. Those that the module has not, which accelerate refuses, do not count.
    """
    if not accelerator.is_fsdp2:
        return
    plugin = accelerator.state.fsdp_plugin
    known = {type(part).__name__ for part in module.modules()}
    configured = plugin.transformer_cls_names_to_wrap
    named = dict.fromkeys((*(configured or ()), *blocks))
    plugin.transformer_cls_names_to_wrap = [name for name in named if name in known]
    fsdp2_prepare_model(accelerator, module)
    plugin.transformer_cls_names_to_wrap = configured


def prepare(
    accelerator: Accelerator, objective: nn.Module, optimizer: torch.optim.Optimizer
) -> tuple[Any, Any]:
    """The objective and the optimizer to use instead. FSDP's shards must be made before."""
    if accelerator.is_fsdp2:
        return objective, accelerator.prepare_optimizer(optimizer)
    return accelerator.prepare(objective, optimizer)


def prepare_again(accelerator: Accelerator, objective: nn.Module) -> Any:
    """The objective to use instead, after more of its parameters were unfrozen."""
    return objective if accelerator.is_fsdp2 else accelerator.prepare(objective)


def accumulate_over(accelerator: Accelerator, objective: Any, batches: int, examples: int) -> None:
    """Make so many batches, of so many examples in all processes, one step from now on."""
    accelerator.gradient_accumulation_steps = batches
    accelerator.step = 0  # it counts the batches of a step by what is left over
    if accelerator.distributed_type == DistributedType.DEEPSPEED:
        objective.set_train_batch_size(examples)
