"""Ways of fitting a picture to a size. Imports no torch, so that options can be checked without it."""

from typing import Literal, get_args

Fit = Literal["stretch", "cover", "cover_ceil"]
"""How a picture becomes another size.

- `stretch`: exactly the size, whatever that does to the aspect ratio; bilinear. Cosmos-Predict2's training data.
- `cover`: scaled by max(W/w, H/h), sizes rounded to the nearest, bicubic; then the centre is cut out. The training data
  of the autoregressive models.
- `cover_ceil`: the same with sizes rounded up, bilinear. The conditioning frames of both at inference.
"""

FITS: tuple[str, ...] = get_args(Fit)
"""The legal words."""
