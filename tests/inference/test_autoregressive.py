import json
import os

import pytest
import torch

from cosmos_nemo.errors import UserError
from cosmos_nemo.inference import autoregressive
from cosmos_nemo.inference.autoregressive import given_tokens, sample_ids
from cosmos_nemo.inference.autoregressive_options import AutoregressiveOptions
from cosmos_nemo.inference.autoregressive_plan import AutoregressivePlan, make_plan
from cosmos_nemo.inference.generate import generate
from cosmos_nemo.inference.jobs import make_jobs
from cosmos_nemo.inference.source import open_source
from cosmos_nemo.media.clips import read_clip, to_video
from cosmos_nemo.media.writing import write_video
from cosmos_nemo.tokenizers.load import load_discrete_tokenizer, load_video_tokenizer
from cosmos_nemo.tokenizers.tiny import write_tiny_wan
from tests.checkpoints.networks import name_the_size
from tests.distributed import run_ranks
from tests.inference.tiny_ar import NETWORK, PROMPTS, write_everything
from tests.media.ramp import moving_ramp


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """Folder with tiny runs, encoders and inputs; see `tests.inference.tiny_ar.write_everything`."""
    folder = tmp_path_factory.mktemp("tiny_ar")
    write_everything(folder)
    return folder


def choices(tiny, tmp_path, **changes):
    given = {"checkpoint": tiny / "ar", "input": (tiny / "clip.mp4",), "output": tmp_path / "out.mp4"}
    return {**given, **changes}


def run(given):
    return generate(**given, progress=False)


@pytest.fixture
def decoded(monkeypatch):
    """Keeps the tokens that are decoded to videos, by the number of the video."""
    seen = []
    original = autoregressive.Studio.write

    def keeping(studio, jobs, options, tokens):
        seen.extend(tokens)
        return original(studio, jobs, options, tokens)

    monkeypatch.setattr(autoregressive.Studio, "write", keeping)
    return seen


def test_a_video_its_strip_and_its_comparison_have_the_sizes_of_training(tiny, tmp_path, decoded):
    places = {"strip": tmp_path / "strip.png", "comparison": tmp_path / "side.mp4"}
    result = run(choices(tiny, tmp_path, truth=tiny / "clip.mp4", offload_tokenizer=True, **places))
    assert result.paths == (tmp_path / "out.mp4", *places.values()) and result.seconds > 0
    assert read_clip(tmp_path / "out.mp4").shape == (17, 3, 32, 48)
    assert read_clip(places["strip"]).shape[2] > 3 * 160, "three rows"
    assert read_clip(places["comparison"]).shape == (17, 3, 32, 3 * 48)
    assert decoded[0].unique().numel() > 5


def test_generation_begins_with_the_tokens_of_the_given_frames(tiny, tmp_path, decoded):
    run(choices(tiny, tmp_path))
    tokenizer = load_video_tokenizer(tiny / "dv")
    last = read_clip(tiny / "clip.mp4", last=9)
    resized = autoregressive.read_conditional_frames(tiny / "clip.mp4", count=9, height=32, width=48)
    assert len(last) == len(resized) == 9
    filled = torch.cat((resized, resized[-1:].expand(8, -1, -1, -1)))
    expected = tokenizer.encode(to_video(filled)).flatten()[: 2 * 2 * 3]
    assert torch.equal(decoded[0][:12], expected.long()) and len(decoded[0]) == 18
    run(choices(tiny, tmp_path, input=(tiny / "picture.png",), num_input_frames=1))
    assert read_clip(tmp_path / "out.mp4").shape == (17, 3, 32, 48)


def test_a_video_does_not_depend_on_its_batch_and_repeated_inputs_differ(tiny, tmp_path, decoded):
    run(choices(tiny, tmp_path, seed=3))
    clip, other = tiny / "clip.mp4", tiny / "other.mp4"
    for size in (1, 3):
        inputs = (other, clip, clip)
        result = run(choices(tiny, tmp_path, input=inputs, output=tmp_path / "many", seed=3, batch_size=size))
        assert [path.name for path in result.paths] == ["other.mp4", "clip.mp4", "clip_1.mp4"]
    alone, one, several = decoded[0], decoded[1:4], decoded[4:7]
    assert torch.equal(one[1], alone) and all(torch.equal(a, b) for a, b in zip(one, several, strict=True))
    assert torch.equal(one[2][:12], alone[:12]) and not torch.equal(one[2], alone)


def test_the_seed_decides_unless_the_most_likely_token_is_taken(tiny, tmp_path, decoded):
    for seed in (0, 1):
        run(choices(tiny, tmp_path, seed=seed))
    for seed in (0, 1):
        run(choices(tiny, tmp_path, seed=seed, temperature=0.0))
    assert not torch.equal(decoded[0], decoded[1]) and torch.equal(decoded[2], decoded[3])
    run(choices(tiny, tmp_path, seed=1, top_p=1e-6))
    assert torch.equal(decoded[4], decoded[2]), "only the most likely token is left"


def test_a_published_file_gives_the_same_video_as_the_run_it_came_from(tiny, tmp_path, decoded, monkeypatch):
    name_the_size(monkeypatch, NETWORK)
    sizes = {"height": 32, "width": 48, "num_frames": 17, "fps": 8.0, "tokenizer": tiny / "dv"}
    run(choices(tiny, tmp_path))
    run(choices(tiny, tmp_path, checkpoint=tiny / "ar.pt", model="autoregressive", **sizes))
    assert torch.equal(decoded[0], decoded[1])
    source = open_source(tiny / "ar.pt")
    options = AutoregressiveOptions(**choices(tiny, tmp_path, checkpoint=tiny / "ar.pt", tokenizer=tiny / "dv"))
    plan = make_plan(options, source, make_jobs(options))
    assert (plan.num_frames, plan.height, plan.width, plan.fps) == (33, 640, 1024, 25.0)
    assert plan.latent_shape == (5, 40, 64) and plan.num_given_tokens == 5120


def test_text_is_read_by_the_networks_that_do(tiny, tmp_path, decoded):
    lines = [{"visual_input": "clip.mp4", "prompt": prompt} for prompt in PROMPTS]
    batch = tiny / "batch.jsonl"
    batch.write_text("".join(json.dumps(line) + "\n" for line in lines))
    given = {"checkpoint": tiny / "ar_text", "input": (), "temperature": 0.0}
    result = run(choices(tiny, tmp_path, batch_input=batch, output=tmp_path / "many", **given))
    assert [path.name for path in result.paths] == ["clip.mp4", "clip_1.mp4"]
    assert torch.equal(decoded[0][:12], decoded[1][:12]) and not torch.equal(decoded[0], decoded[1])
    run(choices(tiny, tmp_path, checkpoint=tiny / "ar_text", prompt=PROMPTS[1], temperature=0.0))
    assert torch.equal(decoded[2], decoded[1])


def test_two_ranks_generate_what_one_process_generates(tiny, tmp_path, decoded):
    run(choices(tiny, tmp_path, input=(tiny / "clip.mp4", tiny / "other.mp4"), output=tmp_path / "alone"))
    given = choices(tiny, tmp_path, input=(tiny / "clip.mp4", tiny / "other.mp4"), output=tmp_path / "ranks")
    results = run_ranks("tests.inference.ranks:generate_tokens", 2, given)
    assert [written for written, _ in results] == [2, 0], "only rank 0 writes"
    assert all(torch.equal(a, b) for a, b in zip(results[0][1], decoded, strict=True))


BAD = {
    "no input": ({"input": ()}, "give --input"),
    "absent": ({"input": ("/nowhere.mp4",)}, "--input /nowhere.mp4 does not exist"),
    "top_p": ({"top_p": 0.0}, "--top-p 0.0 must be above 0"),
    "temperature": ({"temperature": -1.0}, "--temperature -1.0 must not be negative"),
    "frames": ({"num_input_frames": 17}, "--num-input-frames 17 .* 17 frames; use one of 1, 9"),
    "odd frames": ({"num_input_frames": 4}, "use one of 1, 9"),
    "num_frames": ({"num_frames": 20}, "--num-frames 20 is not 8 k [+] 1; use 17 or 25"),
    "size": ({"height": 40}, "--height 40 is not a multiple of 16; use 32 or 48"),
    "tokenizer": ({"tokenizer": "/nowhere"}, "--tokenizer /nowhere does not exist"),
    "prompt": ({"prompt": "a ball"}, "reads no text; drop --prompt"),
    "suffix": ({"output": "out.png"}, r"end the name with \.mp4"),
    "model": ({"model": "predict2"}, "holds a network of the family autoregressive"),
    "model name": ({"model": "gpt"}, "use auto or one of predict2, autoregressive"),
    "choice": ({"guidance": 3.0, "num_steps": 4}, "--guidance, --num-steps does not apply to autoregressive models"),
    "batch and input": ({"batch_input": "x.jsonl"}, "both given"),
    "batch size": ({"batch_size": 0}, "at least 1"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_told_in_one_line_and_nothing_is_written(tiny, tmp_path, name):
    changes, message = BAD[name]
    with pytest.raises(UserError, match=message) as error:
        run(choices(tiny, tmp_path, **changes))
    assert "\n" not in str(error.value) and not os.listdir(tmp_path)


def test_several_videos_need_a_folder(tiny, tmp_path):
    with pytest.raises(UserError, match=r"several videos go into a folder; omit the suffix \.mp4"):
        run(choices(tiny, tmp_path, input=(tiny / "clip.mp4",) * 2))


def test_a_network_that_reads_text_needs_a_prompt(tiny, tmp_path):
    with pytest.raises(UserError, match=r"clip\.mp4 has no prompt, which this network reads"):
        run(choices(tiny, tmp_path, checkpoint=tiny / "ar_text"))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2 is not JSON"),
        ("[]", "line 2 names no input"),
        ('{"visual_input": "gone.mp4"}', r"line 2: gone\.mp4 exists neither here"),
    ],
)
def test_a_bad_line_of_the_batch_file_is_named(tiny, tmp_path, line, message):
    batch = tiny / "bad.jsonl"
    batch.write_text('{"input": "clip.mp4"}\n' + line + "\n")
    with pytest.raises(UserError, match=message):
        run(choices(tiny, tmp_path, input=(), batch_input=batch, output=tmp_path / "many"))


def test_a_clip_too_short_for_the_context_is_told_before_anything_is_loaded(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(autoregressive, "load_discrete_tokenizer", lambda *a, **k: pytest.fail("loaded it"))
    write_video(moving_ramp(3), tmp_path / "short.mp4", fps=8)
    for input, kind in ((tiny / "picture.png", "an image"), (tmp_path / "short.mp4", r"a video of 3 frame\(s\)")):
        with pytest.raises(
            UserError, match=f"is {kind}, but --num-input-frames 9 needs 9 frames; use .* 1 or a longer"
        ):
            run(choices(tiny, tmp_path, input=(input,)))


def test_a_wrong_tokenizer_is_told(tiny, tmp_path):
    with pytest.raises(UserError, match=r"has a vocabulary of 160, the network one of 100; take the tokenizer it"):
        load_discrete_tokenizer(tiny / "dv", vocab_size=100, field="--tokenizer")
    write_tiny_wan(tmp_path / "wan", seed=0)
    with pytest.raises(UserError, match=r"--tokenizer .*wan makes latents, not tokens; give a DV tokenizer"):
        run(choices(tiny, tmp_path, tokenizer=tmp_path / "wan"))
    assert os.listdir(tmp_path) == ["wan"]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_only_tokens_that_the_tokenizer_has_are_generated(tiny, tmp_path, temperature):
    options = AutoregressiveOptions(**choices(tiny, tmp_path, temperature=temperature))
    prompt = autoregressive.Prompt(tokens_S=torch.zeros(1), sample=1, num_ids=3)
    logits = torch.tensor([[0.0, 1.0, 9.0, 20.0, 20.0]])
    assert autoregressive.picker(options, [prompt])(logits, 5).tolist() == [2]


def test_ids_outside_the_vocabulary_and_other_grids_are_told(tiny):
    plan = AutoregressivePlan(
        height=32,
        width=48,
        num_frames=17,
        num_input_frames=9,
        fps=8.0,
        tokenizer=tiny / "dv",
        text_encoder=None,
        text_length=0,
    )
    tokenizer = load_video_tokenizer(tiny / "dv")
    tokenizer.vocab_size = 1
    with pytest.raises(UserError, match=r"made token ids from \d+ to \d+, but has 1"):
        given_tokens(moving_ramp(9, 32, 48), plan, tokenizer)
    tokenizer.encode = lambda video: torch.zeros(1, 5, 4, 6, dtype=torch.int32)
    with pytest.raises(UserError, match=r"makes \(5, 4, 6\) tokens .* the network takes \(3, 2, 3\)"):
        given_tokens(moving_ramp(9, 32, 48), plan, tokenizer)


def test_identities_tell_content_and_repetition_apart():
    a, b = torch.arange(4), torch.arange(4) + 1
    ids = sample_ids([a, a, b, a], [None, None, None, "x"])
    assert len(set(ids)) == 4 and sample_ids([b, a], [None, None]) == [ids[2], ids[0]]
