"""Video and picture files: exact frames in, H.264 and PNG out."""
