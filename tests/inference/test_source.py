import json
import shutil
from pathlib import Path

import pytest

from cosmos_nemo.errors import UserError
from cosmos_nemo.inference.diffusion_options import DiffusionOptions
from cosmos_nemo.inference.diffusion_plan import make_plan
from cosmos_nemo.inference.source import open_source


def plan_of(checkpoint, **changes):
    options = DiffusionOptions(checkpoint=checkpoint, prompt="x", output=Path("out.mp4"), **changes)
    return make_plan(options, open_source(options.checkpoint))


@pytest.fixture
def run(tiny, tmp_path):
    shutil.copytree(tiny / "v2w", tmp_path / "run")
    return tmp_path / "run"


def edit(run, **changes):
    content = json.loads((run / "run.json").read_text())
    content["data"].update(changes)
    (run / "run.json").write_text(json.dumps(content))


def test_a_run_supplies_its_sizes_and_encoders(tiny):
    plan = plan_of(tiny / "v2w")
    assert (plan.task, plan.height, plan.width, plan.num_frames, plan.fps) == ("video2world", 32, 48, 9, 8.0)
    assert (plan.tokenizer, plan.text_encoder, plan.text_length) == (tiny / "vae", tiny / "t5", 16)
    assert plan.guidance == 7.0 and plan.negative_prompt.startswith("The video captures")


def test_the_users_values_go_first(tiny):
    plan = plan_of(tiny / "v2w", height=64, fps=24, guidance=0.0, negative_prompt="", tokenizer=tiny / "t5")
    assert (plan.height, plan.width, plan.fps, plan.guidance, plan.negative_prompt) == (64, 48, 24.0, 0.0, "")
    assert plan.tokenizer == tiny / "t5"


def test_an_image_model_has_one_frame_and_no_negative_prompt(tiny):
    plan = plan_of(tiny / "t2i", num_frames=9)
    assert (plan.task, plan.num_frames, plan.guidance, plan.negative_prompt) == ("text2image", 1, 4.0, "")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("model-480p-10fps.pt", (432, 768, 61, 10.0)),
        ("model-720p-16fps.pt", (704, 1280, 93, 16.0)),
        ("iter_000001000.pt", (704, 1280, 93, 16.0)),
    ],
)
def test_a_published_files_name_says_its_size(tiny, tmp_path, caplog, name, expected):
    shutil.copy(tiny / "v2w.pt", tmp_path / name)
    plan = plan_of(tmp_path / name, tokenizer=tiny / "vae", text_encoder=tiny / "t5")
    assert (plan.height, plan.width, plan.num_frames, plan.fps) == expected
    assert plan.text_length == 512
    assert ("does not say what it was trained on" in caplog.text) == name.startswith("iter"), (
        "an assumption is not made silently"
    )


def test_a_published_file_needs_its_encoders_named(tiny):
    with pytest.raises(UserError, match="does not say which tokenizer belongs to it; give --tokenizer PATH"):
        plan_of(tiny / "v2w.pt")


def test_runs_of_the_first_version_name_their_video_tokenizer_differently(run, tiny):
    file = run / "run.json"
    content = json.loads(file.read_text())
    content["data"]["vae"] = content["data"].pop("video_tokenizer")
    content.pop("format")
    file.write_text(json.dumps(content))
    assert plan_of(run).tokenizer == tiny / "vae"


def test_an_encoder_that_is_gone_is_named(run):
    edit(run, video_tokenizer={"path": "/gone/vae", "sha256": ""})
    with pytest.raises(UserError, match="/gone/vae was used in training but is not there any more"):
        plan_of(run)


def test_clips_of_several_frame_rates_play_at_the_published_one(run):
    edit(run, fps=None)
    assert plan_of(run).fps == 16.0


def test_a_run_without_run_json_is_explained(run):
    (run / "run.json").unlink()
    with pytest.raises(UserError, match=r"run\.json is missing; restore it"):
        plan_of(run)
