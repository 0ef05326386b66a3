"""Pixels to latents and back, and captions to text embeddings."""
