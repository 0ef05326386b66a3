"""Post-training of NVIDIA Cosmos world foundation models."""

__version__ = "0.1.0"
