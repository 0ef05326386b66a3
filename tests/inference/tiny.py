"""A tiny network, tiny encoders and small clips for the tests of generation."""

from __future__ import annotations

from pathlib import Path

from cosmos_nemo.checkpoints.convert import load_published_into
from cosmos_nemo.checkpoints.export import write_published
from cosmos_nemo.checkpoints.megatron import save_imported
from cosmos_nemo.data.manifest import EncoderRef
from cosmos_nemo.diffusion.predict2 import Predict2Objective
from cosmos_nemo.media.writing import write_image, write_video
from cosmos_nemo.parallel.process import model_parallel_world
from cosmos_nemo.runs.record import RunData
from cosmos_nemo.tokenizers.tiny import write_tiny_t5, write_tiny_wan
from tests.checkpoints.networks import TINY_NAMED, model_of, random_published
from tests.media.ramp import moving_ramp

TEXT2IMAGE = {**TINY_NAMED, "video_condition": False}
OBJECTIVES = {"v2w": Predict2Objective(state_t=3), "t2i": Predict2Objective.published("text2image")}
PROMPT = "a red ball falls"


def encoder_ref(path: Path) -> EncoderRef:
    """What run.json says about an encoder."""
    return EncoderRef(path=str(path), sha256="0" * 64)


def write_everything(folder: Path) -> None:
    """Runs `v2w` and `t2i` (step 0), `v2w.pt` published, encoders `vae` and `t5`, inputs `clip.mp4`, `picture.png`."""
    write_tiny_wan(folder / "vae", seed=0)
    write_tiny_t5(folder / "t5", seed=0, captions=[PROMPT])
    encoders = {"video_tokenizer": encoder_ref(folder / "vae"), "text_encoder": encoder_ref(folder / "t5")}
    data = RunData(num_frames=9, height=32, width=48, fps=8.0, text_length=16, **encoders)
    with model_parallel_world():
        for name, fields in (("v2w", TINY_NAMED), ("t2i", TEXT2IMAGE)):
            model = model_of(fields)
            load_published_into(model, random_published(fields))
            save_imported(model, folder / name, data=data, objective=OBJECTIVES[name].to_json())
            if name == "v2w":
                write_published(model, folder / "v2w.pt")
    write_video(moving_ramp(12), folder / "clip.mp4", fps=8)
    write_image(moving_ramp(1)[0], folder / "picture.png")
