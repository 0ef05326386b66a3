"""Cosmos-Predict1's autoregressive transformers, with and without text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from torch import nn

from cosmos_nemo.data.dataset import Dataset
from cosmos_nemo.errors import UserError
from cosmos_nemo.families.autoregressive_names import AutoregressiveNames
from cosmos_nemo.families.family import Family, Published, SampleWork
from cosmos_nemo.parallel.sizes import ParallelSizes

if TYPE_CHECKING:
    from cosmos_nemo.models.autoregressive.config import ARConfig

_UNSTORED = (
    "num_prefix_tokens",
    "rotary_base",
    "use_yarn",
    "yarn_original_latent_shape",
    "yarn_scale",
    "yarn_beta_fast",
    "yarn_beta_slow",
    "use_abs_pos_emb",
)
"""Fields that positions depend on; no tensor of a published file tells them."""


class Autoregressive(Family):
    """See the top of this file."""

    name = "autoregressive"
    title = "Cosmos autoregressive"
    tasks = ("autoregressive",)
    reads = "tokens"
    parallelism = frozenset({"tensor", "sequence", "context", "pipeline"})
    names = AutoregressiveNames()
    fields = (
        "num_layers",
        "hidden_size",
        "num_attention_heads",
        "num_query_groups",
        "kv_channels",
        "ffn_hidden_size",
        "vocab_size",
        "input_vocab_size",
        "crossattn_emb_channels",
        "insert_cross_attn_every_k_layers",
        *_UNSTORED,
    )
    unstored = _UNSTORED
    unstored_words = "what positions depend on (YaRN, absolute sinusoid, prefix tokens)"
    size_fields = {
        "num_layers": "number of layers",
        "hidden_size": "hidden size",
        "num_attention_heads": "number of heads",
        "num_query_groups": "number of key heads",
        "ffn_hidden_size": "MLP size",
        "vocab_size": "output rows",
        "input_vocab_size": "embedding rows",
        "crossattn_emb_channels": "text width",
    }

    @property
    def config_class(self) -> type:
        """`ARConfig`."""
        from cosmos_nemo.models.autoregressive.config import ARConfig

        return ARConfig

    @property
    def named_sizes(self) -> Mapping[str, type]:
        """By size, such as `4b`."""
        from cosmos_nemo.models.autoregressive.config import AUTOREGRESSIVE

        return AUTOREGRESSIVE

    def task_of(self, fields: Mapping[str, Any]) -> str:
        """Return the one task of all of them."""
        return "autoregressive"

    def words(self, fields: Mapping[str, Any]) -> str:
        """Return task, depth, width and heads."""
        return (
            f"autoregressive, {fields['num_layers']} blocks, hidden size {fields['hidden_size']}, "
            f"{fields['num_attention_heads']} heads"
        )

    def build(self, config: ARConfig, *, seed: int | None = None) -> nn.Module:
        """Return this pipeline stage's part; see `Family`. `init_seed` takes the place of the seed where it is set."""
        from megatron.core import parallel_state

        from cosmos_nemo.models.autoregressive.model import AutoregressiveTransformer

        config.perform_initialization = seed is not None
        if config.init_seed is None and seed is not None:
            config.init_seed = seed
        return AutoregressiveTransformer(
            config,
            pre_process=parallel_state.is_pipeline_first_stage(),
            post_process=parallel_state.is_pipeline_last_stage(),
        )

    def fit(self, config: Any, dataset: Dataset) -> None:
        """Compare tokens, vocabulary and text with the network; see `Family`."""
        field = dataset.field
        if dataset.token_shape is None:
            raise UserError(
                f"{field} holds {dataset.kind} samples for the task {dataset.task}; this model is trained on token "
                "ids: prepare the shards with `python -m data_prep shards --for ar`."
            )
        if dataset.vocab_size is not None and dataset.vocab_size > config.vocab_size:
            remedy = "set data.tokenizer_path to" if dataset.encoded_in_training else "prepare the shards with"
            raise UserError(
                f"{field} has token ids below {dataset.vocab_size}, the network's vocabulary is model.config."
                f"vocab_size={config.vocab_size}; {remedy} the network's video tokenizer."
            )
        if config.crossattn_emb_channels:
            dataset.require_text(config.crossattn_emb_channels)
        ParallelSizes.of(config).require_even_tokens(config.num_tokens(dataset.token_shape))

    def work(self, config: Any, dataset: Dataset) -> SampleWork:
        """Return the tokens of a sample, prefix included, and the products they take; see `Family`."""
        from cosmos_nemo.models.autoregressive.flops import forward_flops

        assert dataset.token_shape is not None
        tokens = config.num_tokens(dataset.token_shape)
        text = (dataset.text_length or 0) if config.crossattn_emb_channels else 0
        return SampleWork(tokens=tokens, forward_flops=forward_flops(config, tokens, text, 1))

    def published(self, task: str, file_name: str) -> Published:
        """Return what every published network was made for.

        Source: Cosmos-Predict1 `autoregressive/inference/base.py`.
        """
        return Published(num_frames=33, height=640, width=1024, fps=25.0)
