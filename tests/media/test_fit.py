"""Every way of fitting is known to what fits."""

import pytest
import torch

from cosmos_nemo.media.fit import FITS
from cosmos_nemo.media.pictures import resize


@pytest.mark.parametrize("fit", FITS)
def test_every_word_fits_a_picture_to_the_size(fit):
    assert resize(torch.zeros(3, 30, 50, dtype=torch.uint8), (16, 32), fit=fit).shape == (3, 16, 32)
