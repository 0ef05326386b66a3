"""Cosmos-Predict2: Video2World and Text2Image diffusion transformers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from cosmos_nemo.diffusion.predict2 import Predict2Objective
from cosmos_nemo.families.dit import DiTFamily
from cosmos_nemo.families.family import Published
from cosmos_nemo.families.predict2_names import Predict2Names

VIDEO2WORLD, TEXT2IMAGE = "video2world", "text2image"


class Predict2(DiTFamily):
    """See the top of this file."""

    name = "predict2"
    title = "Cosmos-Predict2"
    tasks = (VIDEO2WORLD, TEXT2IMAGE)
    names = Predict2Names()
    fields = (
        "num_layers",
        "hidden_size",
        "num_attention_heads",
        "kv_channels",
        "ffn_hidden_size",
        "in_channels",
        "out_channels",
        "video_condition",
        "concat_padding_mask",
        "patch_spatial",
        "patch_temporal",
        "crossattn_emb_channels",
        "adaln_lora_dim",
        "rope_t_extrapolation_ratio",
        "rope_h_extrapolation_ratio",
        "rope_w_extrapolation_ratio",
        "rope_enable_fps_modulation",
        "max_img_h",
        "max_img_w",
        "max_frames",
    )
    unstored = ("rope_t_extrapolation_ratio", "rope_h_extrapolation_ratio", "rope_w_extrapolation_ratio")
    unstored_words = "the RoPE extrapolation ratios"
    size_fields = {
        "num_layers": "number of blocks",
        "hidden_size": "hidden size",
        "num_attention_heads": "number of heads",
        "ffn_hidden_size": "MLP size",
        "crossattn_emb_channels": "text width",
        "adaln_lora_dim": "adaLN rank",
        "video_condition": "condition-mask channel (Video2World)",
    }

    @property
    def config_class(self) -> type:
        """`Predict2Config`."""
        from cosmos_nemo.models.dit.config import Predict2Config

        return Predict2Config

    @property
    def named_sizes(self) -> Mapping[str, type]:
        """By task and size, such as `video2world_2b`."""
        from cosmos_nemo.models.dit.config import PREDICT2

        return PREDICT2

    def task_of(self, fields: Mapping[str, Any]) -> str:
        """Return `video2world` for a network with a condition-mask channel, else `text2image`."""
        return VIDEO2WORLD if fields["video_condition"] else TEXT2IMAGE

    def words(self, fields: Mapping[str, Any]) -> str:
        """Return task, depth, width and heads."""
        return (
            f"{self.task_of(fields)}, {fields['num_layers']} blocks, hidden size {fields['hidden_size']}, "
            f"{fields['num_attention_heads']} heads"
        )

    def published_objective(self, task: str) -> Predict2Objective:
        """Return Predict2's objective with the settings of a task."""
        return Predict2Objective.published(task)

    def published(self, task: str, file_name: str) -> Published:
        """Return what a published network was made for; a Video2World file's name tells it: model-480p-10fps.pt.

        Source: the published pipelines, cosmos-predict2 `cosmos_predict2/configs/`.
        """
        if task == TEXT2IMAGE:
            return Published(num_frames=1, height=768, width=1360, fps=16.0, guidance=4.0)
        lines, rate = re.search(r"(480|720)p", file_name), re.search(r"(10|16)fps", file_name)
        height, width = (432, 768) if lines and lines[1] == "480" else (704, 1280)
        num_frames, fps = (61, 10.0) if rate and rate[1] == "10" else (93, 16.0)
        return Published(
            num_frames=num_frames,
            height=height,
            width=width,
            fps=fps,
            guidance=7.0,
            negative_prompt=_negative_prompt,
            assumed=not (lines and rate),
        )


def _negative_prompt() -> str:
    """Return the negative prompt of the published Video2World pipeline: other words would give other videos.

    Taken from diffusers' pipeline of the same model rather than repeated here.
    """
    from diffusers.pipelines.cosmos import pipeline_cosmos2_video2world

    return str(pipeline_cosmos2_video2world.DEFAULT_NEGATIVE_PROMPT)
