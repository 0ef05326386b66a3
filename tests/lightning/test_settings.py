"""Settings that cannot be honoured are refused, whoever sets them."""

from __future__ import annotations

from typing import Any

import pytest

from cosmos_nemo.errors import UserError
from cosmos_nemo.lightning.settings import RULES, Rule, check_settings

pytestmark = pytest.mark.nemo


@pytest.fixture(scope="module")
def nl() -> Any:
    from cosmos_nemo.platform.install import install

    install(nemo=True)
    import nemo.lightning

    return nemo.lightning


def recipe(name: str, *overrides: str) -> Any:
    from recipes.launch.command import resolve

    return resolve(name, overrides)[0]


def check_model(task: Any) -> None:
    from recipes.launch import checks

    checks.model(task, checks.division(task).sizes)


def check(task: Any) -> None:
    check_settings({"trainer": task.trainer, "model": task.model})


@pytest.mark.parametrize(
    ("override", "instead"),
    [
        ("trainer.accumulate_grad_batches=4", "set data.global_batch_size"),
        ("trainer.gradient_clip_val=1.0", "set optim.config.clip_grad"),
        ("trainer.strategy.ckpt_async_save=true", "published by a rename"),
        ("trainer.strategy.ckpt_optim_fully_reshardable=false", "cannot be loaded with fp32 weights"),
        ("trainer.strategy.fsdp=megatron", "set trainer.strategy.tensor_model_parallel_size"),
        ("trainer.strategy.fsdp=pytorch", "set trainer.strategy.tensor_model_parallel_size"),
        ("trainer.strategy.ddp=pytorch", "leave it out"),
        ("trainer.logger=true", "log.wandb=online"),
        ("trainer.plugins.fp8=hybrid", "set trainer.plugins.precision"),
        ("model.config.fp8=hybrid", "set trainer.plugins.precision"),
        ("model.config.tensor_model_parallel_size=2", "trainer.strategy has the setting of this name"),
    ],
)
def test_setting_is_refused_in_one_line_with_what_to_use_instead(nl: Any, override: str, instead: str) -> None:
    with pytest.raises(UserError, match=instead) as error:
        check(recipe("cosmos_v2w_2b", override))
    key, _, value = override.partition("=")
    assert str(error.value).lower().startswith(f"{key}={value.lower()} cannot be used here") and "\n" not in str(
        error.value
    )


def test_values_that_change_nothing_may_be_given(nl: Any) -> None:
    check(recipe("cosmos_v2w_2b", "trainer.accumulate_grad_batches=1", "trainer.strategy.fsdp=none"))


def test_every_recipe_passes(nl: Any) -> None:
    from cosmos_nemo import catalog

    for name in catalog.RECIPES:
        check(recipe(name))


def test_objects_are_looked_at_like_configurations(nl: Any) -> None:
    from lightning.pytorch.callbacks import ModelCheckpoint
    from megatron.core.distributed import DistributedDataParallelConfig

    from cosmos_nemo.models.dit.config import Predict2Video2WorldTinyConfig

    def trainer(strategy: dict[str, Any] | None = None, **settings: Any) -> Any:
        settings = {"accelerator": "cpu", "devices": 1} | settings
        return nl.Trainer(strategy=nl.MegatronStrategy(**(strategy or {})), **settings)

    check_settings({"trainer": trainer(), "model.config": Predict2Video2WorldTinyConfig()})
    for bad, words in (
        (trainer(accumulate_grad_batches=2), "accumulate_grad_batches=2"),
        (trainer({"ckpt_async_save": True}), "ckpt_async_save=True"),
        (trainer({"ddp": DistributedDataParallelConfig(check_for_nan_in_grad=True)}), "ddp.check_for_nan_in_grad=True"),
        (trainer(plugins=[nl.MegatronMixedPrecision("bf16-mixed", fp8="hybrid")]), "plugins.fp8=hybrid"),
        (trainer(callbacks=[ModelCheckpoint()]), "callbacks: ModelCheckpoint cannot be used"),
    ):
        with pytest.raises(UserError, match=words):
            check_settings({"trainer": bad})
    with pytest.raises(UserError, match=r"model.config.sequence_parallel=True"):
        config = Predict2Video2WorldTinyConfig()
        config.sequence_parallel = True
        check_settings({"model.config": config})


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.key)
def test_rule_is_about_a_setting_that_there_is(nl: Any, rule: Rule) -> None:
    from fnmatch import filter as matching

    import fiddle as fdl
    from megatron.core.distributed import DistributedDataParallelConfig

    from cosmos_nemo.models.dit.config import DiTConfig
    from recipes.launch.overrides import fields

    owners = {
        "trainer": nl.Trainer,
        "trainer.strategy": nl.MegatronStrategy,
        "trainer.strategy.ddp": DistributedDataParallelConfig,
        "trainer.plugins": nl.MegatronMixedPrecision,
        "model.config": DiTConfig,
    }
    owner, _, name = rule.key.rpartition(".")
    assert matching(fields(fdl.Config(owners[owner])), name)


@pytest.mark.parametrize("granularity", ["selective", "full", "none"])
def test_recompute_granularity_of_a_recipe_is_changed_with_one_word(nl: Any, granularity: str) -> None:
    check_model(recipe("cosmos_v2w_2b", f"model.config.recompute_granularity={granularity}"))
    check_model(recipe("cosmos_ar_4b", f"model.config.recompute_granularity={granularity}"))


def test_pipeline_stages_need_no_dtype_to_be_named(nl: Any) -> None:
    check_model(recipe("cosmos_ar_4b", "trainer.devices=2", "trainer.strategy.pipeline_model_parallel_size=2"))


def test_megatrons_own_refusals_are_one_line(nl: Any) -> None:
    with pytest.raises(UserError, match=r"model\.config: .*recompute_granuarlity: some") as error:
        check_model(recipe("cosmos_v2w_2b", "model.config.recompute_granularity=some"))
    assert "\n" not in str(error.value)
