"""A contact sheet of a dataset: samples with their captions."""

import textwrap
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from cosmos_nemo.data.manifest import Manifest, read_manifest
from cosmos_nemo.data.schema import AnySample, DiffusionSample, SampleError, TokenSample, VideoSample
from cosmos_nemo.errors import UserError
from cosmos_nemo.files import staged
from cosmos_nemo.media.clips import to_frames
from cosmos_nemo.media.frames import read_indices
from cosmos_nemo.media.pictures import VideoError, read_image
from cosmos_nemo.media.probe import probe_video
from cosmos_nemo.platform.devices import pick_device
from data_prep.datasets.reading import RawSample, read_shard

FRAME_WIDTH = 240  # pixels on the sheet
MARGIN = 8
FONT_SIZE = 14
CAPTION_LINES = 2


def write_preview(
    folder: Path, output: Path, *, num_samples: int, num_frames: int, video_tokenizer: Path | None = None
) -> tuple[int, str]:
    """Draw some samples, evenly spread over the dataset, one row each.

    Args:
        folder: of the dataset.
        output: the PNG file.
        num_samples: rows.
        num_frames: frames in a row, evenly spread over the clip.
        video_tokenizer: decodes latents and token ids; None is the one they were made with, if it is still there.

    Returns:
        the number of rows, and how their pictures were made.

    Raises:
        UserError: there is no dataset, or a number is too small.
    """
    for name, value in (("--num-samples", num_samples), ("--num-frames", num_frames)):
        if value < 1:
            raise UserError(f"{name} {value} must be at least 1")
    if output.suffix.lower() != ".png":
        raise UserError(f"--output {output} must be a .png file")
    manifest = read_manifest(folder)
    painter = _Painter(manifest, video_tokenizer, num_frames)
    rows = [_row(raw, manifest, painter) for raw in _spread(folder, manifest, num_samples)]
    if not rows:
        raise UserError(f"{folder} holds no samples")
    _save(_stack(rows), output)
    return len(rows), painter.method


def _spread(folder: Path, manifest: Manifest, count: int) -> Iterator[RawSample]:
    """Give samples at even distances over all shards."""
    total = sum(shard.samples for shard in manifest.shards)
    wanted = sorted({index * total // min(count, total) for index in range(min(count, total))})
    first = 0
    for shard in manifest.shards:
        mine = [index - first for index in wanted if first <= index < first + shard.samples]
        first += shard.samples
        if mine:
            samples = islice(read_shard(folder, shard), mine[-1] + 1)
            yield from (raw for index, raw in enumerate(samples) if index in mine)


class _Painter:
    """Turns samples into frames, with the video tokenizer if there is one."""

    def __init__(self, manifest: Manifest, tokenizer: Path | None, num_frames: int) -> None:
        self._num_frames = num_frames
        self._tokenizer: Any = None
        self.method = "frames of the videos"
        if manifest.kind == "video":
            return
        made_with = Path(manifest.video_tokenizer.path) if manifest.video_tokenizer else None
        path = tokenizer or (made_with if made_with is not None and made_with.exists() else None)
        if path is None:
            self.method = f"in false colours, as the video tokenizer {made_with} is missing; give --video-tokenizer"
            return
        from cosmos_nemo.tokenizers.load import load_video_tokenizer

        self._tokenizer = load_video_tokenizer(path, device=pick_device())
        self.method = f"decoded by {path}"

    def frames(self, sample: AnySample) -> Tensor:
        """Return the frames of a sample, uint8 RGB, shape [T, 3, H, W].

        Raises:
            VideoError: a video cannot be decoded.
        """
        if isinstance(sample, VideoSample):
            return self._of_media(sample)
        if self._tokenizer is None:
            picture_T_3_H_W = _false_colours(sample)
        else:
            content = sample.latent_C_T_H_W.float() if isinstance(sample, DiffusionSample) else sample.tokens_T_H_W
            picture_T_3_H_W = to_frames(self._tokenizer.decode(content[None]))
        return picture_T_3_H_W[self._indices(len(picture_T_3_H_W))]

    def _of_media(self, sample: VideoSample) -> Tensor:
        if sample.media_part != "mp4":
            return read_image(sample.media)[None]
        probe = probe_video(sample.media)
        return read_indices(sample.media, probe, self._indices(probe.num_frames)).transpose(0, 1)

    def _indices(self, available: int) -> list[int]:
        count = min(self._num_frames, available)
        return [round(i * (available - 1) / max(count - 1, 1)) for i in range(count)]


def _false_colours(sample: DiffusionSample | TokenSample) -> Tensor:
    """Make a picture without a tokenizer: three latent channels, or a colour per token id."""
    if isinstance(sample, DiffusionSample):
        values_T_3_H_W = sample.latent_C_T_H_W[:3].float().transpose(0, 1)
        low, high = values_T_3_H_W.amin(), values_T_3_H_W.amax()
        return ((values_T_3_H_W - low) / (high - low + 1e-6) * 255).to(torch.uint8)
    ids_T_1_H_W = sample.tokens_T_H_W[:, None].long()
    # Odd factors scatter neighbouring ids over all colours.
    return torch.cat([ids_T_1_H_W * factor % 256 for factor in (97, 57, 31)], dim=1).to(torch.uint8)


def _row(raw: RawSample, manifest: Manifest, painter: _Painter) -> Image.Image:
    """Draw one sample: its caption above its frames."""
    caption, frames = "", []
    try:
        sample = raw.read(manifest)
        caption = "" if sample.info is None else sample.info.caption
        for frame_3_H_W in painter.frames(sample):
            picture = Image.fromarray(frame_3_H_W.permute(1, 2, 0).contiguous().numpy())
            height = max(1, round(picture.height * FRAME_WIDTH / picture.width))
            frames.append(picture.resize((FRAME_WIDTH, height)))
    except (SampleError, VideoError) as error:
        caption = f"unreadable: {error}"
    return _draw_row(f"{raw.shard.name} {raw.key}", caption, frames)


def _draw_row(name: str, caption: str, frames: list[Image.Image]) -> Image.Image:
    width = MARGIN + max(len(frames), 3) * (FRAME_WIDTH + MARGIN)
    columns = width // (FONT_SIZE * 6 // 10)
    wrapped = textwrap.wrap(caption, columns, max_lines=CAPTION_LINES, placeholder=" ...") if caption else []
    text_height = (1 + len(wrapped)) * (FONT_SIZE + 4) + MARGIN
    row = Image.new("RGB", (width, text_height + max((f.height for f in frames), default=0) + MARGIN), "white")
    pen, font = ImageDraw.Draw(row), ImageFont.load_default(FONT_SIZE)
    for line, (text, colour) in enumerate([(name, "gray"), *((text, "black") for text in wrapped)]):
        pen.text((MARGIN, MARGIN // 2 + line * (FONT_SIZE + 4)), text, fill=colour, font=font)
    for column, frame in enumerate(frames):
        row.paste(frame, (MARGIN + column * (FRAME_WIDTH + MARGIN), text_height))
    return row


def _stack(rows: list[Image.Image]) -> Image.Image:
    sheet = Image.new("RGB", (max(row.width for row in rows), sum(row.height for row in rows)), "white")
    top = 0
    for row in rows:
        sheet.paste(row, (0, top))
        top += row.height
    return sheet


def _save(sheet: Image.Image, output: Path) -> None:
    with staged(output, overwrite=True) as temporary:
        sheet.save(temporary, format="PNG")
