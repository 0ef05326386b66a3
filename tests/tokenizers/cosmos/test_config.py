import pytest
import torch

from cosmos_nemo.errors import UserError
from cosmos_nemo.tokenizers.cosmos.config import (
    CosmosTokenizerConfig,
    CV4x8x8Config,
    CV8x8x8Config,
    DV4x8x8Config,
    DV8x16x16Config,
    published_config,
)
from cosmos_nemo.tokenizers.cosmos.network import build_network


@pytest.mark.parametrize(
    ("config", "million"),
    [(CV8x8x8Config, 105.65), (DV8x16x16Config, 110.90), (CV4x8x8Config, 110.21), (DV4x8x8Config, 112.62)],
)
def test_published_sizes_have_the_published_number_of_parameters(config, million):
    with torch.device("meta"):
        network = build_network(config())
    assert sum(parameter.numel() for parameter in network.parameters()) / 1e6 == pytest.approx(million, abs=0.005)


def test_published_names_lead_to_sizes():
    assert published_config("Cosmos-1.0-Tokenizer-DV8x16x16").name == "DV8x16x16"
    with pytest.raises(UserError, match=r"CV9.*Cosmos-1.0-Tokenizer-CV8x8x8"):
        published_config("CV9")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"spatial_compression": 12}, "power of 2"),
        ({"patch_size": 16}, "smaller patch"),
        ({"channels_mult": (2,)}, "by 4 at most"),
        ({"patch_size": 2}, "cannot undo 8x8x8"),
        ({"channels": 0}, "must be positive"),
        ({"discrete": True, "levels": (8, 1)}, "at least 2"),
    ],
)
def test_contradictions_are_rejected(fields, message):
    with pytest.raises(UserError, match=message):
        CosmosTokenizerConfig(**fields)


def test_sizes_that_do_not_divide_name_their_neighbours():
    config = CV8x8x8Config()
    assert config.latent_shape(17, 64, 96) == (3, 8, 12)
    with pytest.raises(UserError, match=r"num_frames=18.*17 or 25"):
        config.latent_shape(18, 64, 96)
    with pytest.raises(UserError, match=r"width=100.*96 or 104"):
        config.latent_shape(17, 64, 100)
