"""The Cosmos video tokenizers, continuous (CV) and discrete (DV).

Our networks have the published names, so the name table is the network's own list of parameters; what the files hold
besides is known to `tokenizers.cosmos.weights`, which reads them for encoding and decoding, too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields as dataclass_fields
from typing import Any

import torch
from torch import Tensor, nn

from cosmos_nemo.data.dataset import Dataset
from cosmos_nemo.errors import UserError
from cosmos_nemo.families.family import Family, Published, SampleWork
from cosmos_nemo.families.names import Names
from cosmos_nemo.families.rows import Layout, Row
from cosmos_nemo.tokenizers.cosmos import weights
from cosmos_nemo.tokenizers.cosmos.config import PUBLISHED, CosmosTokenizerConfig
from cosmos_nemo.tokenizers.cosmos.initialization import initialize
from cosmos_nemo.tokenizers.cosmos.network import build_network


class CosmosTokenizerNames(Names):
    """Names of the video tokenizers; `original` ones only."""

    marks = re.compile(r"(post_)?quant_conv\.conv3d\.|encoder\.conv_in\.\d+\.conv3d\.|decoder\.conv_out\.\d+\.conv3d\.")
    prefix = weights.TRAINING_PREFIX
    ema_prefix = weights.TRAINING_EMA_PREFIX
    spare = re.compile(f"{weights.CONSTANTS.pattern}|{weights.UNUSED.pattern}")

    def rows(self, fields: Mapping[str, Any]) -> tuple[Row, ...]:
        """Return a row for every parameter, which is the published tensor of its name."""
        with torch.device("meta"):
            network = build_network(CosmosTokenizerConfig(**fields))
        return tuple(
            Row(ours=name, original=(name,), shapes=(tuple(tensor.shape),), layout=Layout.COPY)
            for name, tensor in network.state_dict().items()
        )

    def sizes(self, fields: Mapping[str, Any]) -> dict[str, int]:
        """Return nothing: the shapes in the rows are numbers."""
        return {}

    def infer(self, state: Mapping[str, Tensor], *, like: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the fields of `CosmosTokenizerConfig` that keys and shapes of published weights fix."""
        expected = None if like is None else CosmosTokenizerConfig(**like)
        return weights.infer_config(state, source="The file", like=expected).sizes()

    def take(self, state: Mapping[str, Any], *, ema: bool, source: str) -> dict[str, Tensor]:
        """Return the network without prefix; the averages of a training file have dashes instead of dots."""
        return weights.take_network(state, ema=ema, source=source)


class CosmosTokenizer(Family):
    """See the top of this file."""

    name = "cosmos_tokenizer"
    title = "Cosmos video tokenizer"
    tasks = ("tokenizer",)
    reads = "video"
    parallelism = frozenset()
    names = CosmosTokenizerNames()
    fields = tuple(field.name for field in dataclass_fields(CosmosTokenizerConfig))
    size_fields = {
        "discrete": "kind (discrete)",
        "temporal_compression": "compression in time",
        "spatial_compression": "compression in space",
        "channels": "base width",
        "channels_mult": "widths of the levels",
        "num_res_blocks": "residual blocks per level",
    }

    @property
    def config_class(self) -> type:
        """`CosmosTokenizerConfig`."""
        return CosmosTokenizerConfig

    @property
    def named_sizes(self) -> Mapping[str, type]:
        """By published name, such as `Cosmos-1.0-Tokenizer-CV8x8x8`."""
        return PUBLISHED

    def task_of(self, fields: Mapping[str, Any]) -> str:
        """Return the one task of all of them."""
        return "tokenizer"

    def words(self, fields: Mapping[str, Any]) -> str:
        """Return kind, compression, widths and the size of a latent."""
        return weights.describe(CosmosTokenizerConfig(**fields))

    def make_config(self, fields: Mapping[str, Any], *, dtype: torch.dtype, on_cpu: bool) -> CosmosTokenizerConfig:
        """Return a config; it knows neither dtype nor device, for there is no Megatron in it."""
        if "spatial_compression" not in fields:
            raise UserError("The description is not that of a video tokenizer: it lacks spatial_compression.")
        return CosmosTokenizerConfig(**{name: fields[name] for name in self.fields if name in fields})

    def build(self, config: CosmosTokenizerConfig, *, seed: int | None = None) -> nn.Module:
        """Return the network; see `tokenizers.cosmos.initialization` for its random weights."""
        with torch.random.fork_rng(devices=[]):  # making a network draws weights, which are replaced
            network = build_network(config)
        if seed is not None:
            initialize(network, seed=seed)
        return network

    def fit(self, config: Any, dataset: Dataset) -> None:
        """Raise unless the samples are video of a size that the network divides; see `Family`."""
        if dataset.kind != "video":
            raise UserError(
                f"{dataset.field} holds {dataset.kind} samples for the task {dataset.task}; a tokenizer is trained on "
                "video files: prepare the shards with `python -m data_prep shards --for tokenizer`."
            )
        try:
            config.latent_shape(*dataset.clip_shape)
        except UserError as error:
            raise UserError(f"{dataset.window_field}: {error}.") from error

    def work(self, config: Any, dataset: Dataset) -> SampleWork:
        """Return the frames of a clip, and what torch counts for one on a network without memory; see `Family`."""
        from torch.utils.flop_counter import FlopCounterMode

        num_frames, height, width = dataset.clip_shape
        with torch.device("meta"), torch.no_grad(), FlopCounterMode(display=False) as counter:
            build_network(config)(torch.empty(1, 3, num_frames, height, width))
        return SampleWork(tokens=num_frames, forward_flops=float(counter.get_total_flops()), unit="frames")

    def published(self, task: str, file_name: str) -> Published:
        """Raise: a tokenizer generates nothing by itself.

        Raises:
            UserError: Always.
        """
        raise UserError("A video tokenizer generates nothing; see what it keeps with `cosmos-nemo reconstruct`.")
