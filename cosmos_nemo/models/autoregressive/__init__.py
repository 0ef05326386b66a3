"""The Cosmos-Predict1 autoregressive transformer (4B, 12B, and 5B, 13B with text) on Megatron-core."""
