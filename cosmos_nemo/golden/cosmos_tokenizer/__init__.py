"""Check the video tokenizers: networks, files, quantizer, wavelets, losses, metrics."""
