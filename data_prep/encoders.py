"""Fits the tiny encoders to a small dataset, so that a demonstration's decoded videos show what is in them."""

import math
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from cosmos_nemo.data.frames import VideoError, probe_video, read_frames, to_unit
from cosmos_nemo.errors import UserError
from cosmos_nemo.tokenizers.tiny import new_tiny_wan, write_tiny_t5
from cosmos_nemo.tokenizers.wan import WanTokenizer
from data_prep.scan import find_media

CROP = (32, 48)  # pixels; small pieces give many more steps in the same time
CLIP_FRAMES = 9  # 1 + 4 + 4: the first frame, the first chunk and a later one take different paths in the network
IMAGE_BATCH = 4
IMAGE_SHARE = 0.77  # of the steps; single frames cost a third and teach shapes and colours, clips then teach motion
IMAGE_LEARNING_RATE = 2e-3
CLIP_LEARNING_RATE = 1e-3
PICTURE_COLUMNS = 6  # frames of each video in the picture
MAX_FRAMES = 4096  # kept in memory, 75 MB at 64x96


@dataclass(frozen=True, kw_only=True)
class EncoderOptions:
    """How to make the tiny encoders."""

    videos: Path  # a folder of videos, or a dataset folder with videos/ and metas/
    steps: int = 650
    seed: int = 0
    height: int = 64
    width: int = 96

    def __post_init__(self) -> None:
        """Reject sizes that the network cannot take."""
        if self.height % 8 or self.width % 8 or self.height < CROP[0] or self.width < CROP[1]:
            raise UserError(
                f"--height {self.height} --width {self.width} must be multiples of 8, at least {CROP[0]} and {CROP[1]}"
            )
        if self.steps < 0:
            raise UserError(f"--steps {self.steps} must not be negative")


@dataclass(frozen=True, kw_only=True)
class EncoderResult:
    """What came out."""

    psnr: float  # of the reconstruction, dB, over a few whole videos
    picture: Path  # originals above reconstructions
    num_captions: int


def write_encoders(
    folder: Path, options: EncoderOptions, *, on_step: Callable[[str], None] = lambda note: None
) -> EncoderResult:
    """Make `folder/vae`, `folder/text_encoder` and `folder/reconstruction.png`.

    Both are saved when finished, in one step each; existing ones are replaced.

    Raises:
        UserError: there are no usable videos.
    """
    root = options.videos
    if root.name == "videos" and not (root / "videos").is_dir():
        root = root.parent  # the folder of videos itself was given; captions lie beside it
    clips = _load_clips(root, options)
    captions = [file.read_text(encoding="utf-8").strip() for file in sorted((root / "metas").glob("*.txt"))]
    # One thread, always: other counts give other sums, and so small a network gains little from more.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        model = new_tiny_wan(seed=options.seed)
        condition_weights(model, seed=options.seed)
        # Adam's averages of the weights that single frames never reach decay into denormal numbers, which a CPU
        # handles ten times slower than zeros. Not earlier: numpy warns about it while it is being imported.
        torch.set_flush_denormal(True)
        _fit(model, clips, options, on_step)
        normalise_latents(model, clips)
        psnr, picture = _check(model, clips)
    finally:
        torch.set_num_threads(threads)
        torch.set_flush_denormal(False)
    folder.mkdir(parents=True, exist_ok=True)
    _replace_folder(folder / "vae", model.save_pretrained)
    _replace_folder(folder / "text_encoder", lambda d: write_tiny_t5(d, seed=options.seed, captions=captions))
    file = folder / "reconstruction.png"
    picture.save(file)
    return EncoderResult(psnr=psnr, picture=file, num_captions=len(captions))


def _load_clips(root: Path, options: EncoderOptions) -> list[Tensor]:
    """Videos as uint8 [3, T, H, W]; those that cannot be used are left out."""
    clips, frames = [], 0
    for path in find_media(root, images=False).values():
        try:
            probe = probe_video(path)
            if probe.num_frames < CLIP_FRAMES:
                continue
            count = min(probe.num_frames, 128)
            clips.append(read_frames(path, probe, start=0, num_frames=count, size=(options.height, options.width)))
        except VideoError:
            continue
        frames += count
        if frames >= MAX_FRAMES:
            break
    if not clips:
        raise UserError(
            f"no video in {root} is readable and has {CLIP_FRAMES} frames; see `python -m data_prep sample`"
        )
    return clips


@torch.no_grad()
def condition_weights(model: nn.Module, *, seed: int) -> None:
    """Give the network a start from which a few hundred steps lead somewhere.

    torch's defaults shrink the signal at every convolution until the biases drown it. Here every convolution outside
    the residual branches passes its channels on, averaged where it reduces, plus something random; so the colours of a
    blurred picture arrive at the output before the first step. The residual branches start nearly off.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, module in model.named_modules():
        if not isinstance(module, nn.Conv2d | nn.Conv3d):
            continue
        gain = 0.1 if name.endswith(("conv2", "proj")) else 1.0 if name.endswith(("conv1", "to_qkv")) else 0.5
        weight = module.weight[:, :, -1:] if module.kernel_size == (3, 3, 3) else module.weight
        module.weight.zero_()  # the past stays out until the clips: single frames would leave it untrained noise
        weight.normal_(std=gain * weight[0].numel() ** -0.5, generator=generator)
        assert module.bias is not None
        module.bias.zero_()
        if gain == 0.5:
            for first in (0, module.weight.shape[1] if name.endswith("time_conv") else 0):
                module.weight[first : first + 3] *= 0.1  # the first three channels carry the colours
            _pass_on(module)
        if name == "encoder.conv_in":
            module.bias[3:] = 0.5  # the norms over channels keep brightness only relative to a constant


def _pass_on(conv: nn.Conv2d | nn.Conv3d) -> None:
    """Add the identity over channels: at the present frame and pixel, or the mean of what a stride takes together."""
    out_channels, channels, *kernel = conv.weight.shape
    identity = torch.eye(out_channels, channels)
    if out_channels == 2 * channels:  # doubles the frame rate: the frame, twice
        identity = torch.cat([torch.eye(channels)] * 2)
    taps = torch.zeros(kernel)
    if len(kernel) == 2 and conv.stride[-1] == 2:
        taps[:2, :2] = 1 / 4
    elif conv.stride[0] == 2:
        taps[1:] = 1 / 2
    else:
        taps[(-1, *(size // 2 for size in kernel[1:])) if len(kernel) == 3 else tuple(size // 2 for size in kernel)] = 1
    conv.weight += identity.view(out_channels, channels, *[1] * len(kernel)) * taps


def _fit(model: Any, clips: list[Tensor], options: EncoderOptions, on_step: Callable[[str], None]) -> None:
    """Plain reconstruction, L1 + L2, first of single frames, then of short clips."""
    num_image_steps = round(options.steps * IMAGE_SHARE)
    generator = torch.Generator().manual_seed(options.seed)
    stages = (
        (num_image_steps, 1, IMAGE_BATCH, IMAGE_LEARNING_RATE),
        (options.steps - num_image_steps, CLIP_FRAMES, 1, CLIP_LEARNING_RATE),
    )
    for num_steps, num_frames, batch_size, learning_rate in stages:
        optimizer = torch.optim.Adam(model.parameters(), betas=(0.9, 0.98))
        for step in range(num_steps):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * _ramp(step, num_steps)
            batch = torch.stack([_random_piece(clips, num_frames, generator) for _ in range(batch_size)])
            error = model.decode(model.encode(batch).latent_dist.mode()).sample - batch
            loss = error.square().mean() + error.abs().mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            on_step(f"loss {loss.item():.3f}")


def _ramp(step: int, num_steps: int) -> float:
    """Warm up over 20 steps, and fall along a cosine."""
    return min(1.0, (step + 1) / 20) * (0.5 + 0.5 * math.cos(math.pi * step / num_steps))


def _random_piece(clips: list[Tensor], num_frames: int, generator: torch.Generator) -> Tensor:
    """A random crop of a random window, float [3, num_frames, *CROP] in [-1, 1].

    Of two, the one with more in it: half of the pieces would show nothing but wall.
    """
    return max((_draw_piece(clips, num_frames, generator) for _ in range(2)), key=lambda piece: float(piece.std()))


def _draw_piece(clips: list[Tensor], num_frames: int, generator: torch.Generator) -> Tensor:

    def draw(count: int) -> int:
        return int(torch.randint(count, (1,), generator=generator))

    clip = clips[draw(len(clips))]
    _, length, height, width = clip.shape
    start = draw(length - num_frames + 1)
    top, left = 8 * draw((height - CROP[0]) // 8 + 1), 8 * draw((width - CROP[1]) // 8 + 1)
    piece = clip[:, start : start + num_frames, top : top + CROP[0], left : left + CROP[1]]
    return to_unit(piece)


@torch.no_grad()
def normalise_latents(model: Any, clips: list[Tensor]) -> None:
    """Set `latents_mean` and `latents_std` so that normalised latents have mean 0 and variance 1 per channel."""
    latents = [_latents(model, clip) for clip in clips[:32]]
    flat_C_N = torch.cat([latent.flatten(1) for latent in latents], dim=1).double()
    mean, std = flat_C_N.mean(dim=1), flat_C_N.std(dim=1).clamp_min(1e-3)
    model.register_to_config(
        latents_mean=[round(value, 6) for value in mean.tolist()],
        latents_std=[round(value, 6) for value in std.tolist()],
    )


def _latents(model: Any, clip_3_T_H_W: Tensor) -> Tensor:
    return model.encode(_whole(clip_3_T_H_W)).latent_dist.mode()[0]


def _whole(clip_3_T_H_W: Tensor) -> Tensor:
    """As many frames as fit the tokenizer, float [1, 3, T, H, W]."""
    length = (clip_3_T_H_W.shape[1] - 1) // 4 * 4 + 1
    return to_unit(clip_3_T_H_W[None, :, : min(length, 17)])


def _check(model: Any, clips: list[Tensor]) -> tuple[float, Any]:
    """Reconstruct a few videos: their PSNR, and a picture with originals above reconstructions."""
    from PIL import Image

    tokenizer = WanTokenizer(model, path=Path(), files=())
    rows, squares = [], []
    for clip in clips[:: max(1, len(clips) // 6)][:6]:
        video = _whole(clip)
        copy = tokenizer.decode(tokenizer.encode(video))
        squares.append((copy - video).square().mean().item() / 4)  # of values in [0, 1]
        for pixels in (video, copy):
            frames_T_H_W_3 = ((pixels[0] + 1) * 127.5).round().byte().permute(1, 2, 3, 0).numpy()
            # A fixed number of columns: clips differ in length.
            chosen = np.linspace(0, len(frames_T_H_W_3) - 1, PICTURE_COLUMNS).round().astype(int)
            rows.append(np.concatenate(list(frames_T_H_W_3[chosen]), axis=1))
    psnr = -10 * math.log10(sum(squares) / len(squares))
    return psnr, Image.fromarray(np.concatenate(rows, axis=0))


def _replace_folder(folder: Path, save: Callable[[str], Any]) -> None:
    temporary = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    save(str(temporary))
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(temporary, folder)
