"""The table of clips that recipes and `data_prep` share."""

import pytest

from cosmos_nemo.catalog import RECIPES
from cosmos_nemo.data.clip_specs import CLIP_SPECS, FAMILIES, clip_spec
from cosmos_nemo.data.manifest import TASKS
from cosmos_nemo.data.schema import SAMPLE_TYPES


@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_every_recipe_has_clips(recipe):
    spec = clip_spec(recipe)
    assert spec.task in TASKS and spec.kind in SAMPLE_TYPES
    assert (spec.height is None) == (spec.kind == "video")


def test_families_name_recipes_of_their_own():
    tasks = [CLIP_SPECS[recipe].task for recipe in FAMILIES.values()]
    assert tasks == ["video2world", "text2image", "autoregressive", "tokenizer"]


def test_sizes_are_multiples_of_what_the_models_take():
    for name, spec in CLIP_SPECS.items():
        if spec.height is not None and spec.width is not None:
            assert (spec.height % spec.size_multiple, spec.width % spec.size_multiple) == (0, 0), name
            assert spec.num_frames % 4 == 1, name


def test_other_names_are_unknown():
    with pytest.raises(KeyError):
        clip_spec("cosmos_v2w_3b")
