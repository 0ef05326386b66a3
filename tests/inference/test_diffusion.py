import os

import pytest
import torch

from cosmos_nemo.errors import UserError
from cosmos_nemo.inference import diffusion as diffusion_module
from cosmos_nemo.inference.conditioning import encode_conditional_frames
from cosmos_nemo.inference.generate import generate
from cosmos_nemo.inference.source import open_source
from cosmos_nemo.media.clips import cover_and_crop, read_clip, to_video
from cosmos_nemo.media.writing import write_video
from cosmos_nemo.tokenizers.cosmos.config import TinyDV8x16x16Config
from cosmos_nemo.tokenizers.cosmos.jit import export_jit
from cosmos_nemo.tokenizers.cosmos.network import build_network
from cosmos_nemo.tokenizers.wan import load_wan
from tests.distributed import run_ranks
from tests.inference.tiny import PROMPT
from tests.media.ramp import moving_ramp
from tests.tokenizers.cosmos.clips import TinyCV8x8x8Config


def video_options(tiny, tmp_path, **changes):
    options = {"checkpoint": tiny / "v2w", "prompt": PROMPT, "input": (tiny / "clip.mp4",), "num_steps": 2}
    return {**options, "output": tmp_path / "out.mp4", **changes}


def image_options(tiny, tmp_path, **changes):
    options = {"checkpoint": tiny / "t2i", "prompt": PROMPT, "num_steps": 2, "output": tmp_path / "out.png"}
    return {**options, **changes}


def write_tokenizer(folder, config):
    export_jit(build_network(config), config, folder)
    return folder


def run(options):
    return generate(**options, progress=False)


@pytest.fixture
def network_calls(monkeypatch):
    """Counts network evaluations and keeps the text embeddings they were given."""
    texts = []
    original = diffusion_module.sample_latents

    def counting(model, *others, **arguments):
        model.register_forward_pre_hook(lambda module, args: texts.append(args[2]))
        return original(model, *others, **arguments)

    monkeypatch.setattr(diffusion_module, "sample_latents", counting)
    return texts


def test_a_video_and_its_strip_are_written_with_the_sizes_of_training(tiny, tmp_path):
    strip = tmp_path / "strip.png"
    result = run(video_options(tiny, tmp_path, strip=strip, truth=tiny / "clip.mp4", num_conditional_frames=5))
    assert result.paths == (tmp_path / "out.mp4", strip) and result.seconds > 0
    assert read_clip(tmp_path / "out.mp4").shape == (9, 3, 32, 48)
    assert read_clip(strip).shape[2] > 3 * 160, "three rows"
    assert sorted(os.listdir(tmp_path)) == ["out.mp4", "strip.png"]


def test_a_cosmos_tokenizer_serves_as_well(tiny, tmp_path):
    """CV8x8x8 has 8 pixel frames in a latent frame: a clip may have 17 frames, of which 1 or 9 are given."""
    folder = write_tokenizer(tmp_path / "cv", TinyCV8x8x8Config(channels=8, channels_mult=(1, 1, 1)))
    write_video(moving_ramp(17), tmp_path / "long.mp4", fps=8)
    options = video_options(tiny, tmp_path, input=(tmp_path / "long.mp4",), tokenizer=folder, num_frames=17)
    run({**options, "num_conditional_frames": 9})
    assert read_clip(tmp_path / "out.mp4").shape == (17, 3, 32, 48)
    with pytest.raises(UserError, match="5 is not possible with this video tokenizer; use 1 or 9"):
        run({**options, "num_conditional_frames": 5})


def test_a_tokenizer_that_makes_tokens_is_refused(tiny, tmp_path):
    folder = write_tokenizer(tmp_path / "dv", TinyDV8x16x16Config(channels=8, channels_mult=(1, 1, 1)))
    with pytest.raises(UserError, match="makes token ids; a diffusion model needs one that makes latents"):
        run(video_options(tiny, tmp_path, tokenizer=folder, num_frames=17))


def test_sizes_can_be_chosen(tiny, tmp_path):
    run(video_options(tiny, tmp_path, input=(tiny / "picture.png",), height=48, width=32, num_frames=5))
    assert read_clip(tmp_path / "out.mp4").shape == (5, 3, 48, 32)


def test_a_published_file_gives_the_same_video_as_the_run_it_came_from(tiny, tmp_path):
    run(video_options(tiny, tmp_path))
    sizes = {
        "height": 32,
        "width": 48,
        "num_frames": 9,
        "fps": 8.0,
        "tokenizer": tiny / "vae",
        "text_encoder": tiny / "t5",
    }
    other = video_options(tiny, tmp_path, checkpoint=tiny / "v2w.pt", output=tmp_path / "published.mp4", **sizes)
    source = open_source(other["checkpoint"])
    # The text length is not in a published file (512 is assumed), so only the source is compared here.
    assert source.architecture.fields.items() <= open_source(tiny / "v2w").architecture.fields.items()
    run(other)
    assert read_clip(tmp_path / "published.mp4").shape == (9, 3, 32, 48)


def test_an_image_is_written(tiny, tmp_path):
    result = run(image_options(tiny, tmp_path, strip=tmp_path / "strip.png"))
    assert [path.name for path in result.paths] == ["out.png", "strip.png"]
    assert read_clip(tmp_path / "out.png").shape == (1, 3, 32, 48)


def test_the_seed_decides_the_result(tiny, tmp_path):
    pictures = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        run(image_options(tiny, tmp_path, output=tmp_path / f"{name}.png", seed=seed))
        pictures.append(read_clip(tmp_path / f"{name}.png"))
    assert torch.equal(pictures[0], pictures[1]) and not torch.equal(pictures[0], pictures[2])


def test_video_without_negative_prompt_takes_one_pass_per_step(tiny, tmp_path, network_calls):
    run(video_options(tiny, tmp_path, negative_prompt=""))
    assert len(network_calls) == 3


def test_video_is_guided_away_from_the_published_negative_prompt(tiny, tmp_path, network_calls):
    run(video_options(tiny, tmp_path))
    assert len(network_calls) == 6
    cond, uncond = network_calls[:2]
    assert cond.shape == uncond.shape == (1, 16, 64), "padded to the text length of training"
    assert uncond.abs().sum() > 0 and not torch.equal(cond, uncond)
    assert (cond[:, 8:] == 0).all(), "zero padding"


def test_image_without_negative_prompt_is_guided_away_from_zeros(tiny, tmp_path, network_calls):
    run(image_options(tiny, tmp_path))
    assert len(network_calls) == 6 and (network_calls[1] == 0).all() and network_calls[0].abs().sum() > 0


@pytest.mark.parametrize("make", [video_options, image_options])
def test_no_guidance_takes_one_pass_per_step(tiny, tmp_path, network_calls, make):
    run(make(tiny, tmp_path, guidance=0.0))
    assert len(network_calls) == 3


@pytest.mark.parametrize("count", [1, 5])
def test_encoding_the_given_frames_alone_equals_encoding_the_filled_clip(tiny, count):
    tokenizer = load_wan(tiny / "vae")
    frames = moving_ramp(count, 32, 48)
    filled = torch.cat([frames, frames[-1:].expand(9 - count, -1, -1, -1)])
    whole = tokenizer.encode(to_video(filled))
    given = encode_conditional_frames(frames, tokenizer, tokenizer.latent_frames(9))
    kept = 1 + (count - 1) // 4
    assert given.shape == whole.shape
    torch.testing.assert_close(given[:, :, :kept], whole[:, :, :kept], atol=1e-5, rtol=1e-5)
    assert (given[:, :, kept:] == 0).all()


@pytest.mark.parametrize(
    ("changes", "frames"),
    [
        ({}, slice(-5, None)),
        ({"input_frames": "first"}, slice(0, 5)),
        ({"truth": "clip.mp4"}, slice(0, 5)),
        ({"truth": "clip.mp4", "input_frames": "last"}, slice(-5, None)),
        ({"truth": "picture.png"}, slice(-5, None)),
    ],
)
def test_a_video_is_continued_from_its_end_or_compared_from_its_start(tiny, tmp_path, monkeypatch, changes, frames):
    seen = []
    original = diffusion_module.encode_conditional_frames
    monkeypatch.setattr(
        diffusion_module,
        "encode_conditional_frames",
        lambda frames, *rest: seen.append(frames) or original(frames, *rest),
    )
    changes = {name: tiny / value if name == "truth" else value for name, value in changes.items()}
    run(video_options(tiny, tmp_path, num_conditional_frames=5, **changes))
    expected = cover_and_crop(read_clip(tiny / "clip.mp4")[frames], 32, 48)
    assert torch.equal(seen[0], expected)


BAD = {
    "prompt": ({"prompt": "  "}, "prompt is missing; say what should be seen with --prompt or --prompt-file"),
    "input missing": ({"input": ()}, "give --input"),
    "input absent": ({"input": ("/nowhere.mp4",)}, "--input /nowhere.mp4 does not exist"),
    "frames": ({"num_conditional_frames": 3}, "use 1 or 5"),
    "input frames": ({"input_frames": "middle"}, "use auto, first or last"),
    "steps": ({"num_steps": 0}, "at least 1"),
    "size": ({"height": 40}, "--height 40 is not a multiple of 16; use 32 or 48"),
    "num_frames": ({"num_frames": 10}, "num_frames=10 .* 9 or 13"),
    "nothing left": ({"num_frames": 5, "num_conditional_frames": 5}, "leaves nothing to generate"),
    "task": ({"task": "text2image"}, "is a video2world network"),
    "task name": ({"task": "video"}, "use auto, video2world or text2image"),
    "suffix": ({"output": "out.png"}, r"end the name with \.mp4"),
    "tokenizer": ({"tokenizer": "/nowhere"}, "--tokenizer /nowhere does not exist"),
    "fps": ({"fps": -1.0}, "must be positive"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_told_in_one_line_and_nothing_is_written(tiny, tmp_path, name):
    changes, message = BAD[name]
    (tmp_path / "out.mp4").write_text("precious")
    with pytest.raises(UserError, match=message) as error:
        run(video_options(tiny, tmp_path, **changes))
    assert "\n" not in str(error.value)
    assert os.listdir(tmp_path) == ["out.mp4"] and (tmp_path / "out.mp4").read_text() == "precious"


def test_a_picture_cannot_give_five_frames(tiny, tmp_path):
    with pytest.raises(UserError, match="is an image, but --num-conditional-frames 5 needs 5 frames"):
        run(video_options(tiny, tmp_path, input=(tiny / "picture.png",), num_conditional_frames=5))


def test_an_unreadable_input_is_told_before_anything_is_loaded(tiny, tmp_path, monkeypatch):
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    monkeypatch.setattr(diffusion_module, "load_t5", lambda *a, **k: pytest.fail("loaded an encoder"))
    with pytest.raises(UserError, match=r"bad\.mp4 cannot be read"):
        run(video_options(tiny, tmp_path, input=(tmp_path / "bad.mp4",)))


def test_a_missing_checkpoint_lists_what_is_there(tiny, tmp_path):
    with pytest.raises(UserError, match=r"No checkpoint at .*v2x.*t2i.*v2w"):
        run(video_options(tiny, tmp_path, checkpoint=tiny / "v2x"))
    (tmp_path / "videos").mkdir()
    with pytest.raises(UserError, match=r"holds no checkpoint.*found: videos"):
        run(video_options(tiny, tmp_path, checkpoint=tmp_path))
    with pytest.raises(UserError, match="none of this version's networks"):
        run(video_options(tiny, tmp_path, checkpoint=tiny / "t5"))


def test_an_image_model_takes_no_input(tiny, tmp_path):
    with pytest.raises(UserError, match="Text2Image takes no input"):
        run(image_options(tiny, tmp_path, input=(tiny / "picture.png",)))


def test_two_ranks_generate_what_one_process_generates(tiny, tmp_path):
    alone = video_options(tiny, tmp_path, output=tmp_path / "alone.mp4", num_frames=5)
    run(alone)
    tensor = {**alone, "output": tmp_path / "tensor.mp4"}
    context = {**alone, "output": tmp_path / "context.mp4", "context_parallel_size": 2}
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    broken = {**alone, "input": (tmp_path / "bad.mp4",)}
    results = run_ranks("tests.inference.ranks:generate_twice", 2, tensor, context, broken)
    assert [written for written, _ in results] == [[1, 1], [0, 0]], "only rank 0 writes"
    assert all("cannot be read" in error for _, error in results), "every rank ends with the reason"
    expected = read_clip(tmp_path / "alone.mp4").float()
    for name in ("tensor", "context"):
        difference = (read_clip(tmp_path / f"{name}.mp4").float() - expected).abs()
        assert difference.mean() < 0.5, name
