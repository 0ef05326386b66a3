"""Checks the autoregressive family: network, loss, gradients, optimizer steps, generation, positions, shards."""

from cosmos_nemo.golden.autoregressive.network import check_model
from cosmos_nemo.golden.autoregressive.positions import check_abs_pos_emb, check_ar_rope

__all__ = ["check_abs_pos_emb", "check_ar_rope", "check_model"]
