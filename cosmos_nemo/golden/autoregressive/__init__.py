"""Check the autoregressive family: network, loss, gradients, optimizer steps, generation, positions, shards."""
