"""Encode a video and decode it again, so that a tokenizer can be judged by eye and by numbers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from cosmos_nemo.errors import UserError
from cosmos_nemo.inference.tokenizer_options import ReconstructOptions
from cosmos_nemo.media.clips import to_frames, to_video
from cosmos_nemo.media.frames import iter_frames
from cosmos_nemo.media.pictures import VideoError
from cosmos_nemo.media.probe import VideoProbe, probe_video
from cosmos_nemo.media.writing import open_writer
from cosmos_nemo.platform.devices import pick_device
from cosmos_nemo.tokenizers.cosmos.tokenizer import Coded
from cosmos_nemo.tokenizers.load import load_video_tokenizer
from cosmos_nemo.tokenizers.losses import metrics

FALLBACK_FPS = 24.0  # of files that do not say theirs
WHOLE_WINDOW = 33  # frames at once of a tokenizer that cannot take a video piece by piece (Wan: 4k+1)


@dataclass(frozen=True, kw_only=True)
class ReconstructResult:
    """Quality of a reconstruction."""

    path: Path
    num_frames: int
    height: int
    width: int
    psnr: float
    """Mean over frames in dB, of 8-bit pixels."""
    ssim: float | None
    """Mean over frames; None for frames smaller than its window."""
    use: metrics.CodebookUse | None
    """Of a discrete tokenizer."""
    vocab_size: int | None
    """Of a discrete tokenizer."""

    def __str__(self) -> str:
        """Return one line for people."""
        ssim = "" if self.ssim is None else f", SSIM {self.ssim:.4f}"
        line = f"wrote {self.path}: {self.num_frames} frames {self.height}x{self.width}, PSNR {self.psnr:.2f} dB{ssim}"
        if self.use is not None and self.vocab_size is not None:
            distinct = self.vocab_size - self.use.dead
            line += f"; {self.use.num_tokens} tokens, {distinct} different, entropy {self.use.entropy:.2f} bits"
        return line


def reconstruct(options: ReconstructOptions) -> ReconstructResult:
    """Write an mp4 that plays original | reconstruction side by side, and measure the difference.

    Memory does not grow with the length of the video. Frames whose size does not divide by the tokenizer's compression
    are continued beyond their borders and cut back; so is the last chunk in time.

    Raises:
        UserError: the input is not a video, or there is no tokenizer.
    """
    source, output = options.input.expanduser(), options.output.expanduser()
    if output.suffix.lower() != ".mp4":
        raise UserError(f"the output {output} must end in .mp4")
    if output.resolve() == source.resolve():
        raise UserError(f"the output {output} would replace the input; give another name")
    if not source.is_file():
        raise UserError(f"no video at {source}")
    device = pick_device(options.device)
    tokenizer: Any = load_video_tokenizer(options.tokenizer, device=device)
    try:
        probe = probe_video(source)
        return _run(options, tokenizer, probe, source, output)
    except VideoError as error:
        raise UserError(f"{source}: {error}") from error


def _run(
    options: ReconstructOptions, tokenizer: Any, probe: VideoProbe, source: Path, output: Path
) -> ReconstructResult:
    """Encode and decode the video chunk by chunk."""
    num_frames = min(probe.num_frames, options.max_frames or probe.num_frames)
    height, width = probe.height, probe.width
    totals, counts = {"psnr": 0.0, "ssim": 0.0}, None
    has_ssim = min(height, width) >= metrics.SSIM_MINIMUM
    frames = iter_frames(source, probe, range(num_frames))
    even_height = height + height % 2
    with open_writer(output, size=(even_height, 2 * width), fps=probe.fps or FALLBACK_FPS) as write:
        for chunk in _chunks(num_frames, options.chunk_frames, tokenizer):
            originals: list[Tensor] = []
            coded_pieces = _code(tokenizer, _pieces(frames, chunk, tokenizer, originals, (height, width)))
            for coded in coded_pieces:
                original = originals.pop(0)
                video = coded.video_B_3_T_H_W[:, :, : len(original), :height, :width]
                truth = to_video(original)
                totals["psnr"] += metrics.psnr(truth, video).sum().item()
                totals["ssim"] += metrics.ssim(truth, video).sum().item() if has_ssim else 0.0
                if coded.tokens_B_T_H_W is not None:
                    more = metrics.count_tokens(coded.tokens_B_T_H_W.cpu(), tokenizer.vocab_size)
                    counts = more if counts is None else counts + more
                pair = torch.cat([original, to_frames(video)], dim=3)
                write(F.pad(pair.float(), (0, 0, 0, even_height - height), mode="replicate").to(torch.uint8))
    return ReconstructResult(
        path=output,
        num_frames=num_frames,
        height=height,
        width=width,
        psnr=totals["psnr"] / num_frames,
        ssim=totals["ssim"] / num_frames if has_ssim else None,
        use=None if counts is None else metrics.codebook_use(counts),
        vocab_size=getattr(tokenizer, "vocab_size", None),
    )


def _chunks(num_frames: int, chunk_frames: int, tokenizer: Any) -> Iterator[list[int]]:
    """Give, for every chunk, the lengths of its pieces: one frame first, then as many as the tokenizer makes one of.

    Raises:
        UserError: a chunk has no legal length.
    """
    compression = tokenizer.temporal_compression
    if not hasattr(tokenizer, "reconstruct"):
        chunk_frames = min(chunk_frames, WHOLE_WINDOW)
    if chunk_frames < 1 or (chunk_frames - 1) % compression:
        raise UserError(f"chunks of {chunk_frames} frames do not fit the tokenizer: {compression} k + 1 do")
    for start in range(0, num_frames, chunk_frames):
        length = min(chunk_frames, num_frames - start)
        if hasattr(tokenizer, "reconstruct"):
            yield [1, *[compression] * math.ceil((length - 1) / compression)]
        else:
            yield [1 + compression * math.ceil((length - 1) / compression)]


def _pieces(
    frames: Iterator[Tensor], lengths: list[int], tokenizer: Any, originals: list[Tensor], size: tuple[int, int]
) -> Iterator[Tensor]:
    """Give pieces as the tokenizer takes them, and append the frames read for each to `originals`."""
    scale = tokenizer.spatial_compression
    bottom, right = (-extent % scale for extent in size)
    last = None
    for length in lengths:
        read = list(itertools.islice(frames, length))
        if not read:
            return
        original = torch.stack(read)
        originals.append(original)
        last = original[-1:]
        padded = torch.cat([original, *[last] * (length - len(original))])
        # Borders are continued, not black: an edge of its own would cost the picture's quality near it.
        yield to_video(F.pad(padded.float(), (0, right, 0, bottom), mode="replicate"))


def _code(tokenizer: Any, pieces_1_3_T_H_W: Iterator[Tensor]) -> Iterator[Coded]:
    """Encode and decode the pieces of a chunk."""
    if hasattr(tokenizer, "reconstruct"):
        yield from tokenizer.reconstruct(pieces_1_3_T_H_W)
        return
    for piece in pieces_1_3_T_H_W:
        yield Coded(tokenizer.decode(tokenizer.encode(piece)), None)
