"""What Megatron's and NeMo's modules see instead of `torch` and `torch.cuda` on a CPU.

Only the global name `torch` of the modules in the table is replaced. The real `torch`, which the user's code
and every other library import, is never touched, and nothing is added to the cost of a torch call.
"""

from __future__ import annotations

import contextlib
import functools
import types
from collections.abc import Callable
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

CPU = torch.device("cpu")

_FACTORIES = (
    "arange as_tensor empty empty_like eye full full_like linspace ones ones_like rand randint randn tensor "
    "zeros zeros_like"
).split()


def _is_cuda(device: Any) -> bool:
    if isinstance(device, str):
        return device.startswith("cuda")
    return isinstance(device, torch.device) and device.type == "cuda"


class _Unpinned(torch.Tensor):
    """A tensor that was asked for in pinned memory in order to be moved to CUDA: the move returns it as it is."""

    def to(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        return self.as_subclass(torch.Tensor)

    cuda = to


def _on_cpu(factory: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
    """Wraps a function that makes tensors: device "cuda" becomes the CPU, pinned memory ordinary memory."""

    @functools.wraps(factory)
    def make(*args: Any, **kwargs: Any) -> torch.Tensor:
        if _is_cuda(kwargs.get("device")):
            kwargs["device"] = CPU
        pinned = kwargs.pop("pin_memory", False)
        if factory is torch.tensor and args and isinstance(args[0], torch.Tensor):
            made = args[0].detach().clone()  # torch.tensor(tensor) means this, and warns
        else:
            made = factory(*args, **kwargs)
        return made.as_subclass(_Unpinned) if pinned else made

    return make


class _Inert:
    """A stream or an event: every method does nothing, and it is a context manager."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __enter__(self) -> _Inert:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def __getattr__(self, name: str) -> Callable[..., None]:
        if name.startswith("__"):
            raise AttributeError(name)
        return _nothing


def _nothing(*args: Any, **kwargs: Any) -> None:
    pass


def _zero(*args: Any, **kwargs: Any) -> int:
    return 0


def get_rng_state(*args: Any, **kwargs: Any) -> torch.Tensor:
    """The state of the CPU generator, whatever device is named."""
    return torch.get_rng_state()


def set_rng_state(new_state: torch.Tensor, *args: Any, **kwargs: Any) -> None:
    """Sets the state of the CPU generator, whatever device is named."""
    torch.set_rng_state(new_state)


def manual_seed(seed: int) -> None:
    """Seeds the CPU generator. Not `torch.manual_seed`, which would seed accelerators again."""
    torch.default_generator.manual_seed(int(seed))


class _Namespace(types.ModuleType):
    """A module that answers some names itself and passes the others on."""

    def __init__(self, real: types.ModuleType, **own: Any) -> None:
        super().__init__(real.__name__)
        self.__dict__.update(own, _real=real)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_real"], name)


def make_namespace() -> types.ModuleType:
    """Returns the stand-in for the name `torch` of one library module."""
    random = _Namespace(torch.cuda.random, get_rng_state=get_rng_state, set_rng_state=set_rng_state)
    cuda = _Namespace(
        torch.cuda,
        Event=_Inert,
        Stream=_Inert,
        current_device=lambda: CPU,
        current_stream=_Inert,
        default_stream=_Inert,
        device_count=lambda: 1,  # the CPU is the one device
        empty_cache=_nothing,
        get_rng_state=get_rng_state,
        is_initialized=lambda: True,
        manual_seed=manual_seed,
        max_memory_allocated=_zero,
        max_memory_reserved=_zero,
        memory_allocated=_zero,
        nvtx=types.SimpleNamespace(range_push=_nothing, range_pop=_nothing),
        random=random,
        set_device=_nothing,
        set_rng_state=set_rng_state,
        stream=lambda stream: contextlib.nullcontext(stream),
        synchronize=_nothing,
    )
    return _Namespace(torch, cuda=cuda, **{name: _on_cpu(getattr(torch, name)) for name in _FACTORIES})


class CudaMethods(TorchFunctionMode):
    """While entered, CPU tensors answer `type`, `cuda` and `to` as if the CPU were the CUDA device."""

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        """Answers the three methods; everything else is passed on."""
        kwargs = dict(kwargs or {})
        if func is torch.Tensor.type and len(args) == 1 and not kwargs:
            return func(*args).replace("torch.", "torch.cuda.", 1)
        if func is torch.Tensor.cuda:
            return args[0]
        if func is torch.Tensor.to:
            args = tuple(CPU if _is_cuda(value) else value for value in args)
            if _is_cuda(kwargs.get("device")):
                kwargs["device"] = CPU
        return func(*args, **kwargs)


def with_cuda_methods(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wraps `function` so that `CudaMethods` holds while it runs, and only then."""

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        with CudaMethods():
            return function(*args, **kwargs)

    return run
