"""Diffusers' implementation of the same network, with the same weights: an independent reference and a speed peer."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from diffusers import CosmosTransformer3DModel
from torch import Tensor

from cosmos_nemo.checkpoints.convert import published_state_dict
from cosmos_nemo.models.dit.model import DiT


def build_peer(model: DiT) -> CosmosTransformer3DModel:
    """Diffusers' network with the weights of ``model`` (tensor-parallel size 1), on its device and in its dtype."""
    config = model.config
    weight = model.patch_embed.weight
    peer = CosmosTransformer3DModel(
        # Diffusers resizes and appends the padding mask with torchvision; `peer_inputs` appends it instead.
        in_channels=config.patch_channels,
        concat_padding_mask=False,
        out_channels=config.out_channels,
        num_attention_heads=config.num_attention_heads,
        attention_head_dim=config.head_dim,
        num_layers=config.num_layers,
        mlp_ratio=config.ffn_hidden_size / config.hidden_size,
        text_embed_dim=config.crossattn_emb_channels,
        adaln_lora_dim=config.adaln_lora_dim,
        max_size=(config.max_frames, config.max_img_h, config.max_img_w),
        patch_size=(config.patch_temporal, config.patch_spatial, config.patch_spatial),
        rope_scale=config.rope_ratios,
        extra_pos_embed_type=None,
    ).to(device=weight.device, dtype=weight.dtype)
    peer.load_state_dict(published_state_dict(model, naming="diffusers"))
    return peer


def peer_forward(peer: CosmosTransformer3DModel, inputs: Mapping[str, Tensor]) -> Tensor:
    """Runs diffusers' network on the arguments of `DiT.forward` (per-frame timesteps or one per sample)."""
    x, t = inputs["x_B_C_T_H_W"], inputs["timesteps_B_T"]
    B, _, T, H, W = x.shape
    channels = [x]
    if inputs.get("condition_mask_B_1_T_H_W") is not None:
        channels.append(inputs["condition_mask_B_1_T_H_W"])
    padding = torch.nn.functional.interpolate(inputs["padding_mask_B_1_H_W"], (H, W), mode="nearest")
    channels.append(padding.unsqueeze(2).expand(B, 1, T, H, W))
    dtype = peer.dtype
    return peer(
        torch.cat(channels, dim=1).to(dtype),
        (t if t.ndim == 1 else t.view(B, 1, T, 1, 1)).to(dtype),
        inputs["crossattn_emb_B_L_E"].to(dtype),
        fps=None,  # the published Predict2 networks have no fps modulation; diffusers would apply it
        return_dict=False,
    )[0]
