"""`python -m recipes NAME key=value ...` and `torchrun --nproc-per-node N -m recipes NAME key=value ...`."""

import sys

from recipes.launch import command as launch

if __name__ == "__main__":
    sys.exit(launch.main(prog="python -m recipes"))
