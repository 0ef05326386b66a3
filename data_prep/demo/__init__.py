"""An example dataset that needs no download: drawn scenes with captions, and a text encoder that knows their words."""
