"""A family of networks: all that tells one kind of network from another, in one description.

A family is a subclass of `Family` in a file of its own (`predict2.py`, ...), listed once in `families/__init__.py`.
Whatever builds networks, moves weights, checks data, trains or generates asks the description, and never which family
it is.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import torch
from torch import nn

from cosmos_nemo.data.dataset import Dataset
from cosmos_nemo.diffusion.denoising import Objective
from cosmos_nemo.errors import UserError
from cosmos_nemo.families.names import Names
from cosmos_nemo.parallel.process import current_sizes


@dataclass(frozen=True, kw_only=True)
class SampleWork:
    """What one training sample costs."""

    tokens: int
    """Tokens of the sample; of a tokenizer, frames."""
    forward_flops: float
    """Floating-point operations of one forward pass; forward and backward together are three times as many."""
    unit: str = "video tokens"
    """What `tokens` counts, for people."""


@dataclass(frozen=True, kw_only=True)
class Published:
    """What the published networks of one task were trained on and are sampled with; no weights file holds it."""

    num_frames: int
    """Pixel frames of a clip."""
    height: int
    """Pixels."""
    width: int
    """Pixels."""
    fps: float
    """Frames per second."""
    text_length: int = 512
    """Text positions, zero padding included."""
    guidance: float = 0.0
    """Strength of classifier-free guidance, g in x0 = cond + g (cond - uncond); 0 is none."""
    negative_prompt: Callable[[], str] = str
    """Returns the text that guidance leads away from; empty if there is none."""
    assumed: bool = False
    """Whether several published networks differ in these numbers and the file's name does not say which it is."""

    def data(self) -> dict[str, Any]:
        """Return what a run would record of its training data, under the same names."""
        return {name: getattr(self, name) for name in ("num_frames", "height", "width", "fps", "text_length")}


class Family(abc.ABC):
    """A family of networks with the same names of parameters and the same kind of input."""

    name: ClassVar[str]
    """The family's one name: in run.json, configs, golden vectors, `generate --model` and docs."""
    title: ClassVar[str]
    """The family's name in messages."""
    tasks: ClassVar[tuple[str, ...]]
    """What its networks are for, as data sets, run.json and `generate --task` call it."""
    reads: ClassVar[str]
    """The kind of samples that its networks are trained on: latent, tokens or video."""
    parallelism: ClassVar[frozenset[str]]
    """Which of tensor, sequence, context and pipeline parallelism it has besides data parallelism."""
    names: ClassVar[Names]
    """Its published names."""
    fields: ClassVar[tuple[str, ...]]
    """Config fields that describe a network, as against how it is run; networks with equal ones share weights."""
    unstored: ClassVar[tuple[str, ...]] = ()
    """Those of them that no published file holds; a named size knows them."""
    unstored_words: ClassVar[str] = ""
    """What `unstored` is, in words."""
    size_fields: ClassVar[Mapping[str, str]]
    """Fields that tell one size from another, and their names in messages."""

    @property
    @abc.abstractmethod
    def config_class(self) -> type:
        """The class of its configs; its `family` is this family's name. Imports the model's room."""

    @property
    @abc.abstractmethod
    def named_sizes(self) -> Mapping[str, type]:
        """The published sizes and the tiny ones, name -> config class. Imports the model's room."""

    @abc.abstractmethod
    def task_of(self, fields: Mapping[str, Any]) -> str:
        """Return what a network with these fields is for, one of `tasks`."""

    @abc.abstractmethod
    def words(self, fields: Mapping[str, Any]) -> str:
        """Return a network in a few words, for messages."""

    def make_config(self, fields: Mapping[str, Any], *, dtype: torch.dtype, on_cpu: bool) -> Any:
        """Return a config of a network in the current model-parallel world, for weights that are loaded.

        This is the form of Megatron transformers; other families override it.

        Args:
            fields: Those in `fields`; others are left aside, so that a whole dumped config will do.
            dtype: Of parameters and computation, float32 or bfloat16.
            on_cpu: Make the network on the CPU, even if there is a GPU: it need not fit there to be converted.

        Raises:
            UserError: A size is missing.
        """
        known = {name: fields[name] for name in self.fields if name in fields}
        missing = [name for name in ("num_layers", "hidden_size", "num_attention_heads") if name not in known]
        if missing:
            raise UserError(f"The description of the network lacks {', '.join(missing)}; it is not that of a run.json.")
        return self.config_class(
            **known,
            params_dtype=dtype,
            pipeline_dtype=dtype,
            bf16=dtype is torch.bfloat16,
            use_cpu_initialization=on_cpu,
            **asdict(current_sizes()),
        )

    @abc.abstractmethod
    def build(self, config: Any, *, seed: int | None = None) -> nn.Module:
        """Return the network of a config, or this pipeline stage's part of it. The only constructor of networks.

        Args:
            config: Of `config_class`; the parallel sizes in it are those of the current model-parallel world.
            seed: Of random weights; None leaves the weights arbitrary, because they are about to be loaded.
        """

    @abc.abstractmethod
    def fit(self, config: Any, dataset: Dataset) -> None:
        """Compare a data set with a network before either is loaded.

        Args:
            config: The network.
            dataset: As the network sees it.

        Raises:
            UserError: The data set was made for another network.
        """

    @abc.abstractmethod
    def work(self, config: Any, dataset: Dataset) -> SampleWork:
        """Return what one sample of a data set that `fit` let through costs; without recomputation.

        Args:
            config: The network.
            dataset: See `fit`.
        """

    @abc.abstractmethod
    def published(self, task: str, file_name: str) -> Published:
        """Return what the published network in a file was made for.

        Args:
            task: One of `tasks`.
            file_name: Its name, where that tells one published network from another.
        """

    def published_objective(self, task: str) -> Objective[Any]:
        """Return the diffusion objective that the published networks of a task were trained with.

        Raises:
            UserError: The family's networks do not diffuse.
        """
        raise UserError(f"A {self.title} network has no diffusion objective.")

    def describe(self, config: Any) -> dict[str, Any]:
        """Return the fields of a config that describe its network, ready for JSON."""
        return {name: getattr(config, name) for name in self.fields}

    def named_like(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Return the `unstored` fields of the named size that has these fields; empty if none has."""
        for make in self.named_sizes.values():
            config = make()
            if all(getattr(config, name) == value for name, value in fields.items()):
                return {name: getattr(config, name) for name in self.unstored}
        return {}
