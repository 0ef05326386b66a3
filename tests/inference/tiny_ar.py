"""Tiny autoregressive networks, a tiny DV tokenizer and small clips for the tests of generation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from cosmos_nemo.checkpoints.convert import load_published_into
from cosmos_nemo.checkpoints.megatron import save_imported
from cosmos_nemo.media.writing import write_image, write_video
from cosmos_nemo.parallel.process import model_parallel_world
from cosmos_nemo.runs.record import RunData
from cosmos_nemo.tokenizers.cosmos.config import CosmosTokenizerConfig
from cosmos_nemo.tokenizers.cosmos.jit import export_jit
from cosmos_nemo.tokenizers.cosmos.network import build_network
from cosmos_nemo.tokenizers.tiny import write_tiny_t5
from tests.checkpoints.networks import model_of, random_published
from tests.inference.tiny import encoder_ref
from tests.media.ramp import moving_ramp

NETWORK: dict[str, Any] = {
    "family": "autoregressive",
    "num_layers": 2,
    "hidden_size": 48,
    "num_attention_heads": 4,
    "num_query_groups": 2,
    "kv_channels": 12,
    "ffn_hidden_size": 64,
    "vocab_size": 160,
    "input_vocab_size": 160,
    "crossattn_emb_channels": 0,
    "insert_cross_attn_every_k_layers": 1,
}
"""A network whose vocabulary is the tiny tokenizer's."""

TEXT_NETWORK: dict[str, Any] = {
    **NETWORK,
    "input_vocab_size": 168,
    "crossattn_emb_channels": 64,
    "num_prefix_tokens": 1,
    "use_abs_pos_emb": True,
}
"""The same, reading text."""

PROMPTS = ("a red ball falls", "a ball rises")


def write_tiny_dv(folder: Path) -> None:
    """A discrete tokenizer with random weights, the published compression and 160 tokens, most of which it uses."""
    config = CosmosTokenizerConfig(
        discrete=True,
        spatial_compression=16,
        channels=32,
        channels_mult=(1, 1, 1),
        num_res_blocks=1,
        z_channels=8,
        levels=(5, 2, 2, 2, 2, 2),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = build_network(config)
        with torch.no_grad():
            network.quant_conv.conv3d.weight.mul_(30)
    export_jit(network, config, folder)


def write_everything(folder: Path) -> None:
    """Runs `ar` and `ar_text` (step 0), encoders `dv` and `t5`, inputs `clip.mp4`, `other.mp4`, `picture.png`."""
    write_tiny_dv(folder / "dv")
    write_tiny_t5(folder / "t5", seed=0, captions=PROMPTS)
    encoders = {"video_tokenizer": encoder_ref(folder / "dv"), "text_encoder": encoder_ref(folder / "t5")}
    data = RunData(num_frames=17, height=32, width=48, fps=8.0, text_length=16, **encoders)
    with model_parallel_world():
        for name, fields in (("ar", NETWORK), ("ar_text", TEXT_NETWORK)):
            model = model_of(fields)
            weights = {key: 4 * value for key, value in random_published(fields).items()}
            load_published_into(model, weights)
            save_imported(model, folder / name, data=data)
            if name == "ar":
                torch.save(weights, folder / "ar.pt")
    write_video(moving_ramp(12), folder / "clip.mp4", fps=8)
    write_video(moving_ramp(20).flip(0), folder / "other.mp4", fps=8)
    write_image(moving_ramp(1)[0], folder / "picture.png")
