"""The Cosmos-Predict2 diffusion transformer (Video2World, Text2Image) on Megatron-core."""

from cosmos_nemo.models.dit.config import (
    PREDICT2,
    DiTConfig,
    Predict2Text2Image2BConfig,
    Predict2Text2Image14BConfig,
    Predict2Text2Image600MConfig,
    Predict2Text2ImageTinyConfig,
    Predict2Video2World2BConfig,
    Predict2Video2World14BConfig,
    Predict2Video2WorldTinyConfig,
)
from cosmos_nemo.models.dit.flops import forward_flops
from cosmos_nemo.models.dit.model import DiT

__all__ = [
    "PREDICT2",
    "DiT",
    "DiTConfig",
    "Predict2Text2Image2BConfig",
    "Predict2Text2Image14BConfig",
    "Predict2Text2Image600MConfig",
    "Predict2Text2ImageTinyConfig",
    "Predict2Video2World2BConfig",
    "Predict2Video2World14BConfig",
    "Predict2Video2WorldTinyConfig",
    "forward_flops",
]
