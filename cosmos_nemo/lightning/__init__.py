"""NeMo Lightning: the module, the data module, checkpoints, metrics and `train`. The only room that knows NeMo."""
