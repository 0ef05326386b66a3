"""The autoregressive transformer: from token ids to logits of the next token."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
import torch.nn.functional as F
from megatron.core.enums import ModelType
from megatron.core.tensor_parallel.layers import VocabParallelEmbedding
from torch import Tensor, nn

from cosmos_nemo.errors import UserError
from cosmos_nemo.models.autoregressive.cache import KVCache
from cosmos_nemo.models.autoregressive.config import ARConfig
from cosmos_nemo.models.autoregressive.initialization import initialize
from cosmos_nemo.models.autoregressive.layer import Surroundings, TransformerLayer, token_norm
from cosmos_nemo.models.autoregressive.positions import absolute_embedding, rotary_angles
from cosmos_nemo.models.common.linear import column_linear, unused_init
from cosmos_nemo.models.common.recompute import run_layers
from cosmos_nemo.models.common.sharded import ShardedModule, mark_tensor_parallel, without_initialization
from cosmos_nemo.parallel.collectives import gather_tokens, group_rank, group_size
from cosmos_nemo.parallel.context import TokenRange, split_range
from cosmos_nemo.parallel.groups import Groups
from cosmos_nemo.parallel.sizes import ParallelSizes

LatentShape = tuple[int, int, int]


class Embedding(ShardedModule):
    """Token id -> vector; rows are cut over tensor-parallel ranks."""

    def __init__(self, config: ARConfig, groups: Groups) -> None:
        super().__init__(config)
        self.word_embeddings = VocabParallelEmbedding(
            config.padded_vocab(config.input_vocab_size or config.vocab_size),
            config.hidden_size,
            init_method=unused_init,
            reduce_scatter_embeddings=group_size(groups.sp) > 1,
            config=config,
            tp_group=groups.tp,
        )
        mark_tensor_parallel(self.word_embeddings.weight, 0)

    def forward(self, tokens_B_S: Tensor) -> Tensor:
        """[B, S] -> [S, B, D], or this sequence-parallel rank's part of S."""
        h = self.word_embeddings(tokens_B_S)
        return h if self.word_embeddings.reduce_scatter_embeddings else h.transpose(0, 1).contiguous()


class NumberedLayers(nn.Module):
    """Layers under their numbers in the whole network, so that a name means the same on every pipeline stage."""

    def __init__(self, layers: Mapping[int, nn.Module]) -> None:
        super().__init__()
        for number, layer in layers.items():
            self.add_module(str(number), layer)

    def __iter__(self) -> Iterator[nn.Module]:
        return (layer for layer in self._modules.values() if layer is not None)

    def __len__(self) -> int:
        return len(self._modules)


class Decoder(ShardedModule):
    """The layers of one pipeline stage, and the norm after the last."""

    def __init__(self, config: ARConfig, groups: Groups, *, first: int, count: int, post_process: bool) -> None:
        super().__init__(config)
        self.layers = NumberedLayers(
            {i: TransformerLayer(config, groups, number=i) for i in range(first, first + count)}
        )
        if post_process:
            self.final_layernorm = token_norm(config, groups)

    def forward(self, x_S_B_D: Tensor, around: Surroundings) -> Tensor:
        """Runs the layers."""
        layers = [_with(layer, around) for layer in self.layers]
        x = run_layers(layers, self, x_S_B_D)
        return self.final_layernorm(x) if "final_layernorm" in self._modules else x


def _with(layer: nn.Module, around: Surroundings) -> Callable[[Tensor], Tensor]:
    return lambda x: layer(x, around)


class AutoregressiveTransformer(ShardedModule):
    """Cosmos-Predict1's autoregressive network.

    Parallel layout: weights are cut over the tensor-parallel group, layers over the pipeline group; tokens over the
    context-parallel group and, with ``sequence_parallel``, between attention and MLP further over the tensor-parallel
    group. Inputs are whole on every rank; logits are this rank's vocabulary for this context-parallel rank's tokens
    (`token_range`), because whole ones are too large to gather. `loss.next_token_loss` takes them as they are.

    Source: Cosmos-Predict1 `autoregressive/networks/transformer.py`.
    """

    def __init__(self, config: ARConfig, pre_process: bool = True, post_process: bool = True) -> None:
        """Builds the network, or one pipeline stage of it, on Megatron's current parallel state.

        Args:
            config: size and settings.
            pre_process: whether this stage is the first: it holds the embedding.
            post_process: whether this stage is the last: it holds the final norm and the output layer.

        Raises:
            UserError: settings contradict each other.
        """
        config.check()
        super().__init__(config)
        # Attributes that Megatron's schedules and checkpoints ask of a model.
        self.pre_process, self.post_process = pre_process, post_process
        self.share_embeddings_and_output_weights = False
        self.model_type = ModelType.encoder_or_decoder
        self.groups = groups = Groups.of(config)
        self._input: Tensor | None = None
        self._tables: tuple[object, tuple[Tensor, Tensor, Tensor | None]] | None = None
        count = config.num_layers // config.pipeline_model_parallel_size
        with without_initialization(config):
            if pre_process:
                self.embedding = Embedding(config, groups)
            self.decoder = Decoder(
                config, groups, first=groups.pipeline_rank * count, count=count, post_process=post_process
            )
            if post_process:
                self.output_layer = column_linear(
                    config, groups, config.hidden_size, config.padded_vocab(config.vocab_size)
                )
        if config.perform_initialization:
            initialize(self)

    def sharded_state_dict(self, prefix: str = "", sharded_offsets: tuple = (), metadata: dict | None = None) -> dict:
        """Maps parameters to Megatron ShardedTensors; padding of the vocabulary may differ between save and load."""
        state = super().sharded_state_dict(prefix, sharded_offsets, metadata)
        output = state.get(f"{prefix}output_layer.weight")
        if output is not None:  # Megatron's embedding says so itself
            output.allow_shape_mismatch = True
        return state

    def set_input_tensor(self, input_tensor: Tensor | list[Tensor] | None) -> None:
        """Takes the residual stream from the pipeline stage before; part of Megatron's interface."""
        self._input = input_tensor[0] if isinstance(input_tensor, list) else input_tensor

    def token_range(self, num_tokens: int) -> TokenRange:
        """The tokens for which `forward` returns logits on this rank; padding at their end makes lengths equal."""
        held = split_range(num_tokens, self.groups.cp, self.groups.sp)
        length = held.length * group_size(self.groups.sp)
        return TokenRange(num_tokens=num_tokens, start=group_rank(self.groups.cp) * length, length=length)

    def forward(
        self,
        tokens_B_S: Tensor,
        *,
        latent_shape: LatentShape,
        context_B_L_E: Tensor | None = None,
        context_mask_B_L: Tensor | None = None,
        cache: KVCache | None = None,
        last_only: bool = False,
    ) -> Tensor:
        """Predicts every token's successor.

        Args:
            tokens_B_S: ids, whole on every rank; with a cache, those after the ones it holds. May be shorter than the
                video.
            latent_shape: (T, H, W) of the whole video; says where each token is.
            context_B_L_E: text embedding, for networks that read text.
            context_mask_B_L: True where text may be attended; None: everywhere.
            cache: keys and values of earlier calls; extended by this one. Needs whole sequences on every rank (no
                context or sequence parallelism).
            last_only: only the logits of the last token.

        Returns:
            logits [S, B, V / tp], float; on a pipeline stage before the last, the residual stream [S, B, D].

        Raises:
            UserError: an input does not fit the network or the video.
        """
        start = 0 if cache is None else cache.length
        self._check(tokens_B_S, start, latent_shape, context_B_L_E)
        self._check_parallel(tokens_B_S.shape[1], for_generation=cache is not None or last_only)
        num_tokens = tokens_B_S.shape[1]
        attended = self.token_range(num_tokens)
        around = self._surroundings(attended, start, latent_shape, context_B_L_E, context_mask_B_L, cache)
        if self.pre_process:
            own = attended.take(tokens_B_S.transpose(0, 1)).transpose(0, 1)
            x_S_B_D = self.embedding(own)
        else:
            x_S_B_D = self._input
        x_S_B_D = self.decoder(x_S_B_D, around)
        if cache is not None:
            cache.advance(num_tokens)
        if not self.post_process:
            return x_S_B_D
        return self._logits(x_S_B_D[-1:] if last_only else x_S_B_D)

    def whole_vocabulary(self, logits_S_B_V: Tensor) -> Tensor:
        """From this tensor-parallel rank's columns to all: [S, B, V / tp] -> [S, B, V]."""
        if group_size(self.groups.tp) == 1:
            return logits_S_B_V
        whole = gather_tokens(logits_S_B_V.permute(2, 0, 1), self.groups.tp)
        return whole[: self.config.vocab_size].permute(1, 2, 0)

    def _logits(self, x_S_B_D: Tensor) -> Tensor:
        """Logits; columns that only make the vocabulary divide are minus infinity."""
        logits = self.output_layer(x_S_B_D)[0]
        columns = logits.shape[-1]
        real = min(max(self.config.vocab_size - group_rank(self.groups.tp) * columns, 0), columns)
        return logits if real == columns else F.pad(logits[..., :real], (0, columns - real), value=float("-inf"))

    def _surroundings(
        self,
        attended: TokenRange,
        start: int,
        latent_shape: LatentShape,
        context_B_L_E: Tensor | None,
        context_mask_B_L: Tensor | None,
        cache: KVCache | None,
    ) -> Surroundings:
        dtype = self._dtype
        cos, sin, position = self._position_tables(latent_shape)
        ours = slice(start, start + attended.num_tokens)
        exchanged = self.config.cp_comm_type == "a2a"  # then heads are rotated where the whole sequence is
        rotated = attended
        if exchanged:
            rotated = TokenRange(
                num_tokens=attended.num_tokens, start=0, length=attended.length * group_size(self.groups.cp)
            )
        if position is not None:
            position = split_range(attended.num_tokens, self.groups.cp, self.groups.sp).take(position[ours])[:, None]
        text = None if context_B_L_E is None else context_B_L_E.transpose(0, 1).to(dtype).contiguous()
        return Surroundings(
            cos=rotated.take(cos[ours])[:, None],
            sin=rotated.take(sin[ours])[:, None],
            position_S_1_D=position,
            text_L_B_E=text,
            text_mask_B_1_1_L=None if context_mask_B_L is None else context_mask_B_L.bool()[:, None, None],
            cache=cache,
        )

    def _position_tables(self, latent_shape: LatentShape) -> tuple[Tensor, Tensor, Tensor | None]:
        """Cosines, sines and absolute sinusoid of the whole video; kept, because generation asks for every token."""
        device, dtype = self._device, self._dtype
        key = (tuple(latent_shape), device, dtype)
        if self._tables is None or self._tables[0] != key:
            angles = rotary_angles(self.config, latent_shape)
            position = None
            if self.config.use_abs_pos_emb:  # the published networks hold it in bfloat16
                position = absolute_embedding(self.config, latent_shape).bfloat16().to(device, dtype)
            self._tables = (key, (angles.cos().to(device), angles.sin().to(device), position))
        return self._tables[1]

    @property
    def _dtype(self) -> torch.dtype:
        return next(self.decoder.parameters()).dtype

    @property
    def _device(self) -> torch.device:
        return next(self.decoder.parameters()).device

    def _check(self, tokens: Tensor, start: int, latent_shape: LatentShape, text: Tensor | None) -> None:
        config = self.config
        most = config.num_tokens(latent_shape)
        if start + tokens.shape[1] > most:
            raise UserError(
                f"{start + tokens.shape[1]} tokens are more than a video of latent shape (T, H, W) = "
                f"{tuple(latent_shape)} has ({most}, prefix included)."
            )
        if (text is not None) != (config.crossattn_emb_channels > 0) and start == 0:
            needed = "needs" if config.crossattn_emb_channels else "does not take"
            raise UserError(f"this network {needed} a text embedding; see crossattn_emb_channels.")
        if text is not None and text.shape[-1] != config.crossattn_emb_channels:
            raise UserError(
                f"text embeddings are {text.shape[-1]} wide, this network takes crossattn_emb_channels="
                f"{config.crossattn_emb_channels}; use the text encoder it was trained with."
            )

    def _check_parallel(self, num_tokens: int, *, for_generation: bool) -> None:
        sizes = ParallelSizes.of(self.config)
        pieces = group_size(self.groups.cp) * group_size(self.groups.sp)
        if for_generation and pieces * sizes.pipeline_model_parallel_size > 1:
            raise UserError(
                "generation needs context_parallel_size=1, pipeline_model_parallel_size=1 and sequence_parallel=False; "
                "tensor_model_parallel_size is free."
            )
        sizes.require_even_tokens(num_tokens)
