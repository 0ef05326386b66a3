"""From a checkpoint to a video or an image."""
