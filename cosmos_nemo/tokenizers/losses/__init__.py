"""Losses and metrics of video tokenizers."""
