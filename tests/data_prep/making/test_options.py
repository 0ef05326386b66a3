"""What can be told wrong without looking at any file is refused, and recipes fill in the rest."""

import pytest

from cosmos_nemo.errors import UserError
from data_prep.making.options import options_for
from data_prep.making.shards import make_shards


@pytest.mark.parametrize(
    ("family", "given", "message"),
    [
        ("v2v", {}, "--for v2v is unknown; use one of v2w, t2i, ar, tokenizer"),
        (None, {"recipe": "cosmos_v2w_3b"}, "no such recipe; `cosmos-nemo recipes` lists them"),
        ("ar", {"recipe": "cosmos_v2w_2b"}, "is for the task video2world, which is not --for ar"),
        ("v2w", {}, "--video-tokenizer is missing"),
        ("v2w", {"video_tokenizer": "vae"}, "--text-encoder is missing; without it, embeddings in .*t5_xxl"),
        ("tokenizer", {"height": 16, "width": 16}, "changes raw video, which needs --mp4 encode"),
        ("tokenizer", {"cut": True}, "--cut changes raw video, which needs --mp4 encode"),
        ("tokenizer", {"chunks_per_video": 2}, "add --mp4 encode --cut"),
        ("tokenizer", {"mp4": "encode", "height": 15, "width": 16}, "--height 15 must be a multiple of 2"),
        ("tokenizer", {"height": 16}, "give both --height and --width"),
        ("tokenizer", {"fps": -1.0, "mp4": "encode"}, "--fps -1.0 must be positive"),
        ("tokenizer", {"workers": 0}, "--workers 0 must be at least 1"),
    ],
)
def test_options_that_contradict_each_other_are_refused(tmp_path, family, given, message):
    recipe = given.pop("recipe", None)
    with pytest.raises(UserError, match=message):
        options_for(family, recipe, input=tmp_path, output=tmp_path / "out", **given)


@pytest.mark.parametrize(
    ("family", "recipe", "expected"),
    [
        ("v2w", None, ("video2world", "latent", 93, 704, 1280, True)),
        (None, None, ("video2world", "latent", 93, 704, 1280, True)),
        (None, "cosmos_v2w_2b_lora", ("video2world", "latent", 93, 704, 1280, True)),
        ("t2i", None, ("text2image", "latent", 1, 768, 1360, True)),
        ("ar", None, ("autoregressive", "tokens", 33, 384, 640, False)),
        (None, "cosmos_ar_v2w_13b", ("autoregressive", "tokens", 33, 640, 1024, True)),
        ("tokenizer", None, ("tokenizer", "video", 49, None, None, False)),
    ],
)
def test_recipes_say_what_their_clips_are(tmp_path, family, recipe, expected):
    (tmp_path / "t5_xxl").mkdir()
    options = options_for(family, recipe, input=tmp_path, output=tmp_path / "o", video_tokenizer=tmp_path)
    found = (options.task, options.kind, options.num_frames, options.height, options.width, options.captions)
    assert found == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"height": 30}, "--height 30 must be a multiple of 16; use 16 or 32"),
        ({"width": 50}, "--width 50 must be a multiple of 16; use 48 or 64"),
        ({"num_frames": 16}, "num_frames=16 .* use 13 or 17"),
        ({"num_frames": 0}, "num_frames=0 .* use 1 or 5"),
        ({"val_fraction": 1.0}, "--val-fraction 1.0 must be at least 0 and below 1"),
        ({"chunks_per_video": 0}, "--chunks-per-video 0 must be at least 1"),
        ({"max_bad": 2.0}, "--max-bad 2.0 must be between 0 and 1"),
        ({"latent_dtype": "int8"}, "--latent-dtype int8 is unknown; use one of bfloat16, float32"),
        ({"fit": "squeeze"}, "--fit squeeze is unknown; use one of stretch, cover, cover_ceil"),
        ({"device": "tpu"}, "--device tpu is unknown; use one of auto, cpu, cuda"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(options, change, message):
    with pytest.raises(UserError, match=message):
        make_shards(options(**change))
    assert not (options().output).exists()
