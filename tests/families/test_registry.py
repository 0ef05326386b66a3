"""Which family is it? Right, or a clear error: never a default."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from safetensors.torch import load_file

from cosmos_nemo import families
from cosmos_nemo.errors import UserError
from cosmos_nemo.families.architecture import Architecture
from cosmos_nemo.families.rows import Naming
from cosmos_nemo.models.autoregressive.config import ARTinyConfig
from cosmos_nemo.models.dit.config import DiTConfig, Predict2Video2WorldTinyConfig
from cosmos_nemo.parallel.process import model_parallel_world
from cosmos_nemo.tokenizers.cosmos.config import TinyCV4x8x8Config, TinyDV8x16x16Config

CONFIGS = {
    "predict2": Predict2Video2WorldTinyConfig,
    "autoregressive": ARTinyConfig,
    "cosmos_tokenizer": TinyDV8x16x16Config,
}
"""A small config of every family."""

SIZES = {"num_layers": 1, "hidden_size": 64, "num_attention_heads": 2}


@dataclass(kw_only=True)
class MadeUpConfig(DiTConfig):
    """Of a family that has Predict2's config class and names its blocks like Predict2's."""

    family: ClassVar[str] = "made_up"


class MadeUpNames(type(families.by_name("predict2").names)):
    """Predict2's names, and one more tensor."""

    marks = re.compile(r"made_up_embedder\.")


class MadeUp(type(families.by_name("predict2"))):
    """The family of `MadeUpConfig`."""

    name = "made_up"
    title = "made-up"
    names = MadeUpNames()


@pytest.fixture(scope="module", autouse=True)
def world():
    with model_parallel_world():
        yield


@pytest.fixture
def with_made_up(monkeypatch):
    family = MadeUp()
    monkeypatch.setattr(families, "FAMILIES", (*families.FAMILIES, family))
    return family


def published_of(name: str) -> dict[str, torch.Tensor]:
    """The tensors of a published file of a family, without values."""
    architecture = families.architecture_of(CONFIGS[name]())
    prefix = architecture.family.names.prefix
    shapes = architecture.published_shapes(Naming.ORIGINAL)
    return {prefix + key: torch.empty(shape, device="meta") for key, shape in shapes.items()}


MADE_UP_FILE = {
    "net.blocks.0.self_attn.q_proj.weight": torch.empty(2, 2),
    "net.blocks.0.mlp.layer1.weight": torch.empty(2, 2),
    "net.made_up_embedder.weight": torch.empty(2, 2),
}
"""Published weights whose blocks begin like Predict2's."""


def test_every_family_is_here():
    assert [family.name for family in families.FAMILIES] == list(CONFIGS)


@pytest.mark.parametrize("name", CONFIGS)
class TestEveryFamily:
    def test_is_found_by_its_name(self, name):
        assert families.by_name(name).name == name

    def test_is_found_by_its_config(self, name):
        assert families.of_config(CONFIGS[name]()).name == name
        assert families.architecture_of(CONFIGS[name]()).family.name == name

    def test_is_found_by_its_network_in_any_wrapper(self, name):
        config = CONFIGS[name]()
        network = families.by_name(name).build(config)
        wrapper = torch.nn.Module()
        wrapper.module = torch.nn.Module()
        wrapper.module.module = network
        for module in (network, wrapper):
            family, found = families.of_network(module)
            assert family.name == name and found is config

    def test_is_found_by_its_published_file(self, name):
        assert families.of_published(published_of(name)).name == name
        bare = {families.by_name(name).names.bare(key): tensor for key, tensor in published_of(name).items()}
        assert families.of_published(bare).name == name

    def test_reads_its_size_off_its_published_file(self, name):
        family = families.by_name(name)
        bare = family.names.take(published_of(name), ema=False, source="file")
        described = family.describe(CONFIGS[name]())
        found = family.names.infer(bare, like=described)
        assert found == {field: described[field] for field in found} and len(found) >= 10

    def test_builds_the_parameters_of_its_table(self, name):
        architecture = families.architecture_of(CONFIGS[name]())
        network = architecture.empty_network(dtype=torch.float32)
        assert {key: tuple(p.shape) for key, p in network.named_parameters()} == architecture.our_shapes()

    def test_seeded_weights_are_the_same_again_and_differ_by_seed(self, name):
        family = families.by_name(name)
        first, again, other = (family.build(_without_own_seed(CONFIGS[name]()), seed=seed) for seed in (1, 1, 2))
        same = [torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True)]
        differ = [not torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters(), strict=True)]
        assert all(same) and any(differ)

    def test_named_sizes_are_its_own(self, name):
        family = families.by_name(name)
        for make in family.named_sizes.values():
            assert families.of_config(make()) is family
            assert family.task_of(family.describe(make())) in family.tasks


def _without_own_seed(config):
    if hasattr(config, "init_seed"):
        config.init_seed = None
    return config


def test_a_name_that_nobody_has_is_an_error_that_lists_those_there_are():
    with pytest.raises(UserError, match=r"no family 'made_up'; .* knows predict2, autoregressive, cosmos_tokenizer"):
        families.by_name("made_up")


def test_a_config_without_a_family_is_of_none():
    with pytest.raises(UserError, match="DiTConfig names no family"):
        families.of_config(DiTConfig(**SIZES))


def test_a_config_of_a_family_that_is_not_here_is_of_none():
    with pytest.raises(UserError, match="MadeUpConfig names the family 'made_up'"):
        families.of_config(MadeUpConfig(**SIZES))


def test_a_network_of_a_family_that_is_not_here_is_of_none():
    from cosmos_nemo.models.dit.model import DiT

    network = DiT(MadeUpConfig(**SIZES, crossattn_emb_channels=8, adaln_lora_dim=4))
    with pytest.raises(UserError, match="MadeUpConfig names the family 'made_up'"):
        families.of_network(network)
    with pytest.raises(UserError, match="Linear is none of this project's networks"):
        families.of_network(torch.nn.Linear(2, 2))


def test_a_file_of_a_family_that_is_not_here_is_of_none():
    with pytest.raises(UserError, match=r"model\.pt is none of this version's networks: it knows Cosmos-Predict2, "):
        families.of_published(MADE_UP_FILE, source="model.pt")
    with pytest.raises(UserError, match=r"keys found: none"):
        families.of_published({}, source="model.pt")


def test_the_made_up_family_is_found_once_it_is_here(with_made_up):
    assert families.by_name("made_up") is with_made_up
    assert families.of_config(MadeUpConfig(**SIZES)) is with_made_up
    assert families.of_published(MADE_UP_FILE) is with_made_up
    assert families.of_config(Predict2Video2WorldTinyConfig()).name == "predict2"
    assert families.of_published(published_of("predict2")).name == "predict2"


def test_keys_of_two_families_are_an_error(with_made_up):
    with pytest.raises(UserError, match="several families of networks: Cosmos-Predict2 and made-up"):
        families.of_published({**published_of("predict2"), **MADE_UP_FILE})
    with pytest.raises(UserError, match="Cosmos-Predict2 and Cosmos autoregressive"):
        families.of_published({**published_of("predict2"), **published_of("autoregressive")})


def test_networks_of_different_families_differ_whatever_their_fields():
    fields = families.by_name("predict2").describe(Predict2Video2WorldTinyConfig())
    ours, theirs = (Architecture(family=families.by_name(n), fields=fields) for n in ("predict2", "autoregressive"))
    assert ours.differences(theirs) == "a Cosmos autoregressive network there, a Cosmos-Predict2 one here"
    assert ours.differences(ours) == ""


@pytest.mark.parametrize("form", ["weights", "weights_diffusers"])
def test_predict1_diffusion_networks_are_not_taken_for_predict2(shared_dir: Path, form):
    state = load_file(shared_dir / "golden" / "dit" / f"dit_predict1_v2w_tiny.{form}.safetensors")
    with pytest.raises(UserError, match=r"Predict1 diffusion network, which|none of this version's networks"):
        families.of_published(state, source="model.pt")


@pytest.mark.parametrize(("config", "name"), [(TinyCV4x8x8Config, "CV4x8x8"), (TinyDV8x16x16Config, "DV8x16x16")])
def test_tokenizers_of_both_kinds_are_one_family(config, name):
    architecture = families.architecture_of(config())
    assert architecture.words.startswith(f"{name} tokenizer") and architecture.task == "tokenizer"
