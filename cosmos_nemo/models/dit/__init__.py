"""The Cosmos-Predict2 diffusion transformer (Video2World, Text2Image) on Megatron-core."""
