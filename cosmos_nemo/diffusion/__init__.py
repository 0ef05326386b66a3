"""The mathematics of diffusion training and sampling: pure functions on torch tensors.

Nothing here knows a network, a trainer or a process group: a network is passed in as a function.
"""
