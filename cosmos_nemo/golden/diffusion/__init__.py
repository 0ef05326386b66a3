"""Check the diffusion family: network, loss, gradients, noise levels, positions, sampler, adapters."""
