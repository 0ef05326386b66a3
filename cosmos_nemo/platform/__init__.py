"""Runs real Megatron-core, and NeMo Lightning, on a machine without CUDA.

Importing this package changes nothing. `install` does, and on a CUDA machine it only closes the gaps of
`cosmos_nemo.platform.upstream_gaps`, which are not about CPUs.
"""
