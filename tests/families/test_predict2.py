import pytest
import torch

from cosmos_nemo import families
from cosmos_nemo.families.rows import Naming
from tests.checkpoints.networks import TINY, architecture_of


@pytest.mark.parametrize("naming", list(Naming))
def test_every_published_name_occurs_once(naming):
    names = [
        name for row in families.by_name("predict2").names.rows({"num_layers": 3}) for name in row.published(naming)
    ]
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
    architecture = architecture_of(video_2b)
    shapes = architecture.published_shapes(Naming.ORIGINAL)
    assert sum(torch.Size(shape).numel() for shape in shapes.values()) == 1_956_413_440
    assert sum(torch.Size(shape).numel() for shape in architecture.our_shapes().values()) == 1_956_413_440
    assert len(shapes) + 7 == 574
