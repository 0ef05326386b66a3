"""The folder of a training run: its layout and what it says about itself."""
