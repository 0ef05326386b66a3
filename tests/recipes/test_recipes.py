"""Every recipe builds, offline and without a GPU, with the published numbers."""

from __future__ import annotations

import socket
from types import SimpleNamespace
from typing import Any

import pytest

from cosmos_nemo import catalog
from cosmos_nemo.errors import UserError
from recipes.launch import checks

pytestmark = pytest.mark.nemo


@pytest.fixture(scope="module")
def tasks() -> dict[str, Any]:
    """All recipes, built while every attempt to reach a network raises."""

    def refuse(*arguments: Any) -> None:
        raise AssertionError(f"building a recipe reached for the network: {arguments}")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket.socket, "connect", refuse)
        patch.setattr(socket, "getaddrinfo", refuse)
        return {name: catalog.load(name)() for name in catalog.RECIPES}


@pytest.mark.parametrize("name", catalog.RECIPES)
def test_recipe_is_a_partial_of_train_that_knows_its_name(tasks: dict[str, Any], name: str) -> None:
    import nemo_run as run

    from cosmos_nemo.lightning.train import train

    task = tasks[name]
    assert isinstance(task, run.Partial)
    assert task.__fn_or_cls__ is train
    assert task.log.name == task.log.recipe == name
    assert set(task.__arguments__) == {"model", "data", "trainer", "optim", "log", "resume"}


def test_building_does_not_start_cuda(tasks: dict[str, Any]) -> None:
    import torch

    assert not torch.cuda.is_initialized()


@pytest.mark.parametrize("name", catalog.RECIPES)
def test_recipe_passes_its_own_checks(tasks: dict[str, Any], name: str) -> None:
    checks.model(tasks[name], checks.division(tasks[name]).sizes)
    checks.schedule(tasks[name])


def parameters(config: Any) -> int:
    """Parameters of a network by counting its matrices; independent of the model's code."""
    d, e, r, k = config.hidden_size, config.crossattn_emb_channels, config.adaln_lora_dim, config.head_dim
    self_attention = 4 * d * d + 2 * k
    cross_attention = 2 * d * d + 2 * d * e + 2 * k
    modulation = 3 * (r * d + 3 * d * r)
    block = self_attention + cross_attention + 8 * d * d + modulation
    time_embedding = d * d + 3 * d * d + d
    final = r * d + 2 * d * r + 64 * d
    return config.patch_channels * 4 * d + time_embedding + config.num_layers * block + final


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("cosmos_t2i_2b", 1_956_405_248),
        ("cosmos_t2i_14b", 14_265_265_152),
        ("cosmos_v2w_2b", 1_956_413_440),
        ("cosmos_v2w_14b", 14_265_285_632),
    ],
)
def test_published_sizes_have_the_published_number_of_parameters(
    tasks: dict[str, Any], name: str, expected: int
) -> None:
    import fiddle as fdl

    assert parameters(fdl.build(tasks[name].model.config)) == expected


@pytest.mark.parametrize(
    ("name", "lr", "weight_decay", "f_max", "state_t"),
    [
        ("cosmos_t2i_2b", 2**-15, 0.1, 0.17, 1),
        ("cosmos_t2i_14b", 2**-14.5, 0.2, 0.4, 1),
        ("cosmos_v2w_2b", 2**-14.5, 0.1, 0.6, 24),
        ("cosmos_v2w_14b", 2**-14.5, 0.2, 0.25, 24),
    ],
)
def test_published_sizes_have_the_numbers_of_the_published_examples(
    tasks: dict[str, Any], name: str, lr: float, weight_decay: float, f_max: float, state_t: int
) -> None:
    task = tasks[name]
    config, schedule = task.optim.config, task.optim.lr_scheduler
    assert (config.lr, config.weight_decay, config.clip_grad) == (lr, weight_decay, 1.0)
    assert (config.adam_beta1, config.adam_beta2, config.adam_eps) == (0.9, 0.99, 1e-8)
    assert (schedule.warm_up_steps, schedule.f_max, schedule.f_min) == ([0], [f_max], [0.0])
    assert (task.trainer.max_steps, task.log.save_every_n_steps, task.data.text_length) == (1000, 500, 512)
    assert task.model.objective.state_t == state_t
    assert task.model.objective.video_noise == name.startswith("cosmos_v2w")
    assert task.trainer.plugins.precision == "bf16-mixed"
    assert task.model.ema_rate == 0.1


def test_image_recipes_have_the_published_text2image_objective(tasks: dict[str, Any]) -> None:
    import fiddle as fdl

    from cosmos_nemo.diffusion.predict2 import Predict2Objective

    for name in ("cosmos_t2i_tiny", "cosmos_t2i_2b", "cosmos_t2i_14b"):
        assert fdl.build(tasks[name].model.objective) == Predict2Objective.published("text2image")


def test_parallel_plans_of_one_node_of_8_gpus(tasks: dict[str, Any]) -> None:
    divisions = {name: checks.division(task) for name, task in tasks.items()}
    found = {
        name: (d.sizes.tensor_model_parallel_size, d.sizes.context_parallel_size, d.data_parallel_size)
        for name, d in divisions.items()
        if d.processes == 8
    }
    assert found == {
        "cosmos_v2w_2b": (1, 2, 4),
        "cosmos_v2w_14b": (8, 1, 1),
        "cosmos_t2i_2b": (1, 1, 8),
        "cosmos_t2i_14b": (8, 1, 1),
        "cosmos_tokenizer_cv8x8x8": (1, 1, 8),
        "cosmos_tokenizer_dv8x16x16": (1, 1, 8),
        "cosmos_ar_12b": (8, 1, 1),
        "cosmos_ar_v2w_5b": (4, 1, 2),
        "cosmos_ar_v2w_13b": (8, 1, 1),
    }
    assert tasks["cosmos_v2w_14b"].trainer.strategy.sequence_parallel


@pytest.mark.parametrize(
    ("name", "model", "count"),
    [
        ("cosmos_tokenizer_cv8x8x8", "Cosmos-1.0-Tokenizer-CV8x8x8", 105_650_000),
        ("cosmos_tokenizer_dv8x16x16", "Cosmos-1.0-Tokenizer-DV8x16x16", 110_900_000),
    ],
)
def test_tokenizer_recipes_have_the_published_sizes_and_numbers(
    tasks: dict[str, Any], name: str, model: str, count: int
) -> None:
    import fiddle as fdl
    import torch

    task = tasks[name]
    with torch.device("meta"):
        network = fdl.build(task.model).build_network(initialize=False)
    assert sum(p.numel() for p in network.parameters()) == pytest.approx(count, rel=1e-4)
    config, window = task.optim.config, task.data.window
    assert (config.lr, config.weight_decay, config.adam_beta1, config.adam_beta2) == (1e-4, 0.01, 0.5, 0.999)
    assert (task.model.model, task.model.ema_decay, config.clip_grad) == (model, 0.9999, 1.0)
    assert (window.num_frames, window.height, window.width) == (49, 256, 256)
    assert (task.data.micro_batch_size, task.data.global_batch_size, task.data.num_workers) == (1, 8, 8)


@pytest.mark.parametrize("tensor", [1, 2, 4, 8])
def test_autoregressive_4b_takes_every_tensor_parallel_size_that_divides_its_key_heads(
    tasks: dict[str, Any], tensor: int
) -> None:
    import copy

    task = copy.deepcopy(tasks["cosmos_ar_4b"])
    task.trainer.devices, task.trainer.strategy.tensor_model_parallel_size = 16, tensor
    task.data.global_batch_size = 16 // tensor
    checks.model(task, checks.division(task).sizes)
    task.trainer.strategy.tensor_model_parallel_size = 16
    with pytest.raises(UserError, match=r"does not divide num_query_groups \(8\).*; use 1, 2, 4 or 8"):
        checks.model(task, checks.division(task).sizes)


def test_autoregressive_recipes_have_upstreams_optimizer_and_clips(tasks: dict[str, Any]) -> None:
    for name in ("cosmos_ar_4b", "cosmos_ar_12b", "cosmos_ar_v2w_5b", "cosmos_ar_v2w_13b"):
        config, window = tasks[name].optim.config, tasks[name].data.window
        assert (config.weight_decay, config.adam_beta1, config.adam_beta2, config.adam_eps) == (0.05, 0.9, 0.999, 1e-8)
        assert window.num_frames == 33 and tasks[name].data.text_length == (512 if "v2w" in name else None)
    assert (tasks["cosmos_ar_4b"].data.window.height, tasks["cosmos_ar_4b"].data.window.width) == (384, 640)


@pytest.mark.parametrize("name", [name for name in catalog.RECIPES if name.endswith("_tiny")])
def test_tiny_recipes_run_anywhere(tasks: dict[str, Any], name: str) -> None:
    trainer = tasks[name].trainer
    assert (trainer.accelerator, trainer.devices, trainer.plugins.precision) == ("auto", 1, "32")


def test_14b_fits_80_gb_by_arithmetic(tasks: dict[str, Any]) -> None:
    """Weights, gradients and optimizer states per GPU; activations come on top and are a few GB (see the recipe)."""
    import fiddle as fdl

    bytes_per_parameter = SimpleNamespace(weight=2, gradient=4, master=4, moments=8, average=4)
    count = parameters(fdl.build(tasks["cosmos_v2w_14b"].model.config)) / 8
    assert count * sum(vars(bytes_per_parameter).values()) < 40e9
