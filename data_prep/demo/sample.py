"""An embedded example dataset in upstream's folder layout."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

from cosmos_nemo.errors import UserError
from cosmos_nemo.files import WORKPLACE, remove_debris, write_json, write_text
from cosmos_nemo.media.writing import Encoding, write_video
from data_prep.demo.draw import draw_scene
from data_prep.demo.options import SampleOptions
from data_prep.demo.scenes import SCENES

SETTINGS_NAME = "sample.json"
ENCODING = Encoding(crf=12, preset="veryfast", reproducible=True)


def write_sample(folder: Path, options: SampleOptions, *, on_video: Callable[[str], None] = lambda name: None) -> int:
    """Render the dataset to `folder/videos/*.mp4` and `folder/metas/*.txt`; equal options give equal bytes.

    Args:
        folder: where to write; files of an earlier call with the same options are kept.
        options: what to render.
        on_video: called with the name of each finished video.

    Returns:
        the number of videos.

    Raises:
        UserError: `folder` holds something else.
    """
    _claim(folder, options)
    for name in ("videos", "metas"):
        (folder / name).mkdir(exist_ok=True)
    remove_debris(folder, folder / "videos", folder / "metas")
    kinds = list(SCENES)
    for index in range(options.num_videos):
        kind = kinds[index % len(kinds)]
        stem = f"{kind}_{index:04d}"
        video, caption = folder / "videos" / f"{stem}.mp4", folder / "metas" / f"{stem}.txt"
        if not (video.is_file() and caption.is_file()):
            rng = np.random.default_rng([options.seed, index])
            scene = SCENES[kind](rng, options.num_frames, options.fps)
            frames_T_H_W_3 = draw_scene(scene, height=options.height, width=options.width)
            frames_T_3_H_W = torch.from_numpy(frames_T_H_W_3).permute(0, 3, 1, 2)
            write_video(frames_T_3_H_W, video, fps=options.fps, encoding=ENCODING)
            write_text(caption, scene.caption + "\n")
        on_video(stem)
    return options.num_videos


def _claim(folder: Path, options: SampleOptions) -> None:
    settings = folder / SETTINGS_NAME
    wanted = asdict(options)
    if settings.is_file():
        found = json.loads(settings.read_text(encoding="utf-8"))
        changed = [
            f"{name} was {found.get(name)}, now {wanted[name]}" for name in wanted if found.get(name) != wanted[name]
        ]
        if changed:
            raise UserError(
                f"{folder} holds an example dataset with other settings ({'; '.join(changed)}); use another folder"
            )
        return
    if folder.exists() and any(not file.name.startswith(WORKPLACE) for file in folder.iterdir()):
        raise UserError(f"{folder} is not empty and holds no example dataset; use another folder")
    write_json(settings, wanted)
