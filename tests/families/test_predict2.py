import pytest
import torch

from cosmos_nemo.families.predict2 import PREDICT2, table
from cosmos_nemo.families.rows import Naming
from tests.checkpoints.networks import TINY


@pytest.mark.parametrize("naming", list(Naming))
def test_every_published_name_occurs_once(naming):
    names = [name for row in table({"num_layers": 3}) for name in row.published(naming)]
    assert len(names) == len(set(names)) == 7 + 3 * 20


def test_published_sizes_have_the_published_number_of_parameters():
    video_2b = {
        **TINY,
        "num_layers": 28,
        "hidden_size": 2048,
        "num_attention_heads": 16,
        "ffn_hidden_size": 8192,
        "crossattn_emb_channels": 1024,
        "adaln_lora_dim": 256,
    }
    shapes = PREDICT2.published_shapes(video_2b, Naming.ORIGINAL)
    assert sum(torch.Size(shape).numel() for shape in shapes.values()) == 1_956_413_440
    assert sum(torch.Size(shape).numel() for shape in PREDICT2.our_shapes(video_2b).values()) == 1_956_413_440
    assert len(shapes) + 7 == 574
