"""Dataset folders in upstream's layout: look at them, and fill them with videos, images, captions and embeddings."""
