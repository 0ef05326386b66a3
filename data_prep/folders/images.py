"""Turn frames of videos into image datasets for Text2Image."""

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from torch import Tensor

from cosmos_nemo.errors import UserError
from cosmos_nemo.files import remove_debris, write_bytes, write_text
from cosmos_nemo.media.frames import iter_frames
from cosmos_nemo.media.pictures import VideoError
from cosmos_nemo.media.probe import probe_video
from data_prep.folders.layout import find_media

JPEG_QUALITY = 95


@dataclass(kw_only=True)
class ExtractReport:
    """Result of an extraction."""

    images: int = 0
    """Images in the output folder at the end."""
    written: int = 0
    """New ones among them."""
    without_caption: list[str] = field(default_factory=list)
    """Videos without a caption."""
    bad: dict[str, str] = field(default_factory=dict)
    """Videos that cannot be used, and why."""


def extract_images(
    folder: Path,
    output: Path,
    *,
    stride: int,
    on_video: Callable[[str], None] = lambda stem: None,
) -> ExtractReport:
    """Write every `stride`-th frame of every video to `output/images/STEM_NUMBER.jpg`, and its video's caption.

    Files of an earlier call are kept, so an interrupted one is completed. Names are upstream's: NUMBER counts the
    images of one video, with eight digits. Upstream copies the T5 pickles instead of the captions; here `t5` or
    `shards` embeds each caption once, however many images share it.

    Args:
        folder: dataset with videos/ and metas/.
        output: another folder.
        stride: frames from image to image.
        on_video: called with the stem of each finished video.

    Raises:
        UserError: the stride is below 1, there are no videos, or none of them gave an image.
    """
    if stride < 1:
        raise UserError(f"--stride {stride} must be at least 1")
    if output.resolve() == folder.resolve():
        raise UserError(f"{output} is the folder of the videos; give another one for the images")
    videos = find_media(folder, images=False)
    for name in ("images", "metas"):
        (output / name).mkdir(parents=True, exist_ok=True)
        remove_debris(output / name)
    report = ExtractReport()
    for stem, path in videos.items():
        text = folder / "metas" / f"{stem}.txt"
        if not text.is_file():
            report.without_caption.append(stem)
        try:
            caption = text.read_text(encoding="utf-8-sig") if text.is_file() else None
            for written in _extract(stem, path, caption, output, stride):
                report.images += 1
                report.written += written
        except (VideoError, UnicodeDecodeError) as error:
            reason = f"caption metas/{stem}.txt is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
            report.bad[stem] = reason
        on_video(stem)
    if not report.images:
        raise UserError(f"no video of {folder} gave an image: {'; '.join(list(report.bad.values())[:3])}")
    return report


def _extract(stem: str, path: Path, caption: str | None, output: Path, stride: int) -> Iterator[bool]:
    """Write the images of one video; tell for each whether it is new."""
    probe = probe_video(path)
    indices = range(0, probe.num_frames, stride)
    names = [f"{stem}_{number:08d}" for number in range(len(indices))]
    missing = {number for number, name in enumerate(names) if not (output / "images" / f"{name}.jpg").is_file()}
    frames = iter_frames(path, probe, [indices[number] for number in sorted(missing)])
    for number, name in enumerate(names):
        if number in missing:
            _write_image(output / "images" / f"{name}.jpg", next(frames))
        if caption is not None and not (output / "metas" / f"{name}.txt").is_file():
            write_text(output / "metas" / f"{name}.txt", caption.strip() + "\n")
        yield number in missing


def _write_image(file: Path, image_3_H_W: Tensor) -> None:
    from PIL import Image

    content = io.BytesIO()
    Image.fromarray(image_3_H_W.permute(1, 2, 0).numpy()).save(content, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    write_bytes(file, content.getvalue())
