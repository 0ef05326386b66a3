"""The Cosmos video tokenizers CV (continuous latents) and DV (discrete tokens): trainable networks and their files."""
