"""Weights in and out: published names, distributed checkpoints, import and export."""
