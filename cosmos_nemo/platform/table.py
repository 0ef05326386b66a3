"""The table of what Megatron-core and NeMo assume about CUDA, and what holds here instead.

The table is data: `install` walks it, `assumptions` prints it. Supporting another library version, or
another accelerator, means reading these rows again and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass

# Versions the table was read from. Another version may have other modules, or more assumptions.
KNOWN_MEGATRON = ("0.15.3",)
KNOWN_NEMO = ("2.7.3",)


@dataclass(frozen=True, kw_only=True)
class Assumption:
    """One thing a library takes for granted about CUDA.

    Attributes:
        where: module, or ``module:function``, that makes the assumption.
        kind: how it is lifted: ``namespace`` (the module sees a stand-in for the name `torch`), ``methods``
            (tensor methods answer as on CUDA while the function runs), ``replaced`` (another function),
            or ``gap`` (a defect that exists on CUDA machines as well).
        assumes: what the code does.
        here: what it gets instead, and why that is right.
        nemo: whether it only matters with NeMo.
    """

    where: str
    kind: str
    assumes: str
    here: str
    nemo: bool = False


_CPU = "the device is the CPU"
_RNG = "the CPU generator is the only generator"
_SYNC = "CPU calls are synchronous, there is nothing to wait for"


def _namespace(where: str, assumes: str, here: str = _CPU, nemo: bool = False) -> Assumption:
    return Assumption(where=where, kind="namespace", assumes=assumes, here=here, nemo=nemo)


def _methods(where: str, assumes: str, here: str, nemo: bool = False) -> Assumption:
    return Assumption(where=where, kind="methods", assumes=assumes, here=here, nemo=nemo)


_NAMESPACES = (
    _namespace("megatron.core.utils", "makes buffers on torch.cuda.current_device()"),
    _namespace("megatron.core.timers", "calls torch.cuda.synchronize around each timer", _SYNC),
    _namespace("megatron.core.parallel_state", "calls torch.cuda.synchronize after making groups", _SYNC),
    _namespace("megatron.core.rerun_state_machine", 'makes flags with device="cuda"'),
    _namespace("megatron.core.tensor_parallel.layers", "makes weights and gather buffers on the current CUDA device"),
    _namespace("megatron.core.tensor_parallel.mappings", "makes gather buffers on the current CUDA device"),
    _namespace("megatron.core.tensor_parallel.utils", "makes chunk buffers on the current CUDA device"),
    _namespace("megatron.core.tensor_parallel.random", "keeps its random states in the CUDA generator", _RNG),
    _namespace("megatron.core.transformer.module", "makes the shared embedding on the current CUDA device"),
    _namespace("megatron.core.pipeline_parallel.schedules", 'counts tokens in a tensor with device="cuda"'),
    _namespace("megatron.core.pipeline_parallel.p2p_communication", "makes receive buffers on the current CUDA device"),
    _namespace("megatron.core.distributed.distributed_data_parallel", "makes a CUDA stream for overlapped reduction"),
    _namespace(
        "megatron.core.distributed.param_and_grad_buffer",
        "makes parameter and gradient buffers on the current CUDA device, and orders CUDA streams",
    ),
    _namespace("megatron.core.optimizer.optimizer", 'makes scale and overflow flags with device="cuda"'),
    _namespace("megatron.core.optimizer.clip_grads", 'makes norms and flags with device="cuda"'),
    _namespace("megatron.core.optimizer.grad_scaler", 'makes loss scales with device="cuda"'),
    _namespace("megatron.core.optimizer.distrib_optimizer", "makes state shards on the current CUDA device"),
    _namespace("megatron.core.dist_checkpointing.mapping", "makes loaded tensors on the device it is told"),
    _namespace("megatron.core.dist_checkpointing.exchange_utils", 'makes exchanged tensors with device="cuda"'),
    _namespace("megatron.core.dist_checkpointing.strategies.async_utils", "counts calls in a CUDA tensor"),
    _namespace("megatron.core.dist_checkpointing.strategies.filesystem_async", "waits for CUDA copies", _SYNC),
    _namespace("megatron.core.dist_checkpointing.strategies.fully_parallel", "waits for CUDA copies", _SYNC),
    _namespace("megatron.core.dist_checkpointing.strategies.state_dict_saver", "counts failures in a CUDA tensor"),
    _namespace("nemo.lightning.base", "calls torch.cuda.empty_cache", "the CPU has no such cache", True),
    _namespace(
        "nemo.lightning.megatron_init",
        "seeds the tensor-parallel generator only if torch.cuda.device_count() > 0",
        "the CPU counts as one device, so the generator is seeded",
        True,
    ),
    _namespace("nemo.lightning.megatron_parallel", "wraps the model on a CUDA side stream", _SYNC, True),
    _namespace(
        "nemo.lightning.pytorch.strategies.megatron_strategy",
        'logs values through pinned memory and .to("cuda")',
        "such a value stays an ordinary CPU tensor",
        True,
    ),
    _namespace(
        "nemo.lightning.pytorch.plugins.data_sampler",
        'logs values through pinned memory and .to("cuda")',
        "such a value stays an ordinary CPU tensor",
        True,
    ),
)

_TYPE = 'compares Tensor.type() with "torch.cuda.FloatTensor"'
_TYPE_HERE = 'Tensor.type() answers "torch.cuda..." while the function runs'
_TO_CUDA = 'moves tensors with .cuda() or .to("cuda")'
_TO_CUDA_HERE = "the tensor is already where it has to be"

_METHODS = (
    _methods("megatron.core.optimizer.distrib_optimizer:DistributedOptimizer.__init__", _TYPE, _TYPE_HERE),
    _methods("megatron.core.optimizer.optimizer:Float16OptimizerWithFloat16Params.__init__", _TYPE, _TYPE_HERE),
    _methods("megatron.core.optimizer.clip_grads:clip_grad_by_total_norm_fp32", _TYPE, _TYPE_HERE),
    _methods(
        "megatron.core.optimizer.distrib_optimizer:DistributedOptimizer.get_parameter_state_dp_zero",
        _TO_CUDA,
        _TO_CUDA_HERE,
    ),
    _methods(
        "megatron.core.dist_checkpointing.exchange_utils:exchange_loaded_tensors_gather_rounds",
        _TO_CUDA,
        _TO_CUDA_HERE,
    ),
    _methods(
        "megatron.core.dist_checkpointing.exchange_utils:exchange_loaded_tensors_broadcast", _TO_CUDA, _TO_CUDA_HERE
    ),
)

_REPLACED = (
    Assumption(
        where="megatron.core.tensor_parallel.random:_get_cuda_rng_state",
        kind="replaced",
        assumes="reads the state of the CUDA generator",
        here=_RNG,
    ),
    Assumption(
        where="megatron.core.tensor_parallel.random:_set_cuda_rng_state",
        kind="replaced",
        assumes="queues a write to the CUDA generator",
        here=_RNG,
    ),
    Assumption(
        where="nemo.lightning.io.pl:_fix_tensors_device",
        kind="replaced",
        assumes="asserts that CUDA is initialised after every checkpoint load",
        here="loaded tensors are already on the CPU",
        nemo=True,
    ),
)

GAPS = (
    Assumption(
        where="megatron.core.optimizer:Adam",
        kind="gap",
        assumes="Transformer Engine or Apex is installed; torch's own AdamW keeps `step` per parameter, which the "
        "distributed optimizer can neither save nor load",
        here="cosmos_nemo.platform.adam.Adam keeps the state of FusedAdam; used only where both are absent",
    ),
    Assumption(
        where="megatron.core.dist_checkpointing.strategies.filesystem_async:_get_write_results_queue",
        kind="gap",
        assumes="every save may be asynchronous: it spawns a manager process, which imports the main script again "
        "(20 seconds with NeMo) and outlives a rank that is killed",
        here="an ordinary queue; it serves synchronous saves, and this project makes no others",
    ),
    Assumption(
        where="nemo.lightning.pytorch.callbacks.progress_printer:ProgressPrinter.log_megatron_timers",
        kind="gap",
        assumes="rank 0 alone enters a collective of the whole world, which leaves gloo out of step",
        here="without timers there is nothing to gather, so nothing is called",
        nemo=True,
    ),
    Assumption(
        where="nemo.lightning.megatron_parallel:MegatronStep.adjust_tensor_shapes_fn",
        kind="gap",
        assumes="every step may distil a pipelined model: it imports nemo.collections.llm (seconds, 0.5 GB), which "
        "without Transformer Engine leaves an object that raises on isinstance() and so kills Energon's workers",
        here="None, which is the answer for every model that is not distilled",
        nemo=True,
    ),
    Assumption(
        where="nemo.lightning.pytorch.strategies.megatron_strategy:MegatronStrategy.save_checkpoint, load_checkpoint",
        kind="gap",
        assumes="every checkpoint may hold ModelOpt state: they import nemo.collections.llm as well",
        here="while one of them runs the import finds two functions that do nothing, unless the real ones are loaded",
        nemo=True,
    ),
    Assumption(
        where="nemo.lightning.callback_group:CallbackGroup",
        kind="gap",
        assumes="a telemetry callback is always registered, and raises at the first save if it was not configured",
        here="the callback is taken out; nothing is reported anywhere",
        nemo=True,
    ),
)

CPU_ONLY = _NAMESPACES + _METHODS + _REPLACED


def assumptions() -> tuple[Assumption, ...]:
    """Every assumption that `install` lifts, those about CUDA first, then gaps that exist everywhere."""
    return CPU_ONLY + GAPS
