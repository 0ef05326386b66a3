"""Generates a video or an image with a diffusion model."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from cosmos_nemo.data.batch import pad_text
from cosmos_nemo.diffusion.sampler import unit_noise
from cosmos_nemo.errors import UserError
from cosmos_nemo.inference.conditioning import (
    conditional_latent_frames,
    encode_conditional_frames,
    first_frames_mask,
    read_conditional_frames,
)
from cosmos_nemo.inference.diffusion_options import TEXT2IMAGE, VIDEO2WORLD, DiffusionOptions, check_output
from cosmos_nemo.inference.diffusion_plan import Plan, make_plan
from cosmos_nemo.inference.options import GenerateResult
from cosmos_nemo.inference.output import write_views
from cosmos_nemo.inference.ranks import on_rank_zero, progress_bar
from cosmos_nemo.inference.sampling import sample_latents
from cosmos_nemo.inference.source import Source
from cosmos_nemo.media.clips import cover_and_crop, read_clip, to_frames
from cosmos_nemo.media.strip import StripRow
from cosmos_nemo.media.writing import write_image, write_video
from cosmos_nemo.models.dit.conditions import Conditions
from cosmos_nemo.parallel.process import World, model_parallel_world
from cosmos_nemo.platform.dtypes import compute_dtype
from cosmos_nemo.tokenizers.base import VideoTokenizer
from cosmos_nemo.tokenizers.load import is_discrete, load_video_tokenizer
from cosmos_nemo.tokenizers.text import load_t5


def generate_diffusion(options: DiffusionOptions, source: Source, *, progress: bool = True) -> GenerateResult:
    """Generate a video or an image and write it.

    Runs in one process or on the ranks of torchrun (tensor and context parallel); rank 0 reads the inputs, runs
    the encoders and writes the files.

    Args:
        options: what to generate.
        source: the checkpoint that the options name.
        progress: show a progress bar on the terminal.

    Returns:
        the written paths and the time it took.

    Raises:
        UserError: anything the user can put right; nothing is written then.
    """
    start = time.perf_counter()
    plan = make_plan(options, source)
    _check(options, plan)
    with model_parallel_world(
        tensor_model_parallel_size=options.tensor_model_parallel_size,
        context_parallel_size=options.context_parallel_size,
    ) as world:
        inputs = on_rank_zero(world, lambda: _encode(options, plan, world.device))
        latents = _sample(options, plan, source, inputs, world, progress=progress)
        paths = on_rank_zero(world, lambda: _write(options, plan, inputs, latents, world.device))
        mine = tuple(paths) if world.rank == 0 else ()
    return GenerateResult(paths=mine, seconds=time.perf_counter() - start)


@dataclass(frozen=True, kw_only=True)
class _Inputs:
    """What the encoders made of the user's inputs, on the CPU.

    Attributes:
        latent_T_H_W: frames, height and width of the latents to sample.
        given_latent_frames: how many of the frames are given.
        text_1_L_E: embedding of the prompt, zero padded.
        uncond_1_L_E: embedding that guidance leads away from; None where it equals the prompt's (no guidance).
        given_T_3_H_W: conditional frames as the model sees them, uint8; None without.
        gt_frames_1_C_T_H_W: their latents; None without.
    """

    latent_T_H_W: tuple[int, int, int]
    text_1_L_E: Tensor
    uncond_1_L_E: Tensor | None
    given_latent_frames: int = 0
    given_T_3_H_W: Tensor | None = None
    gt_frames_1_C_T_H_W: Tensor | None = None


def _check(options: DiffusionOptions, plan: Plan) -> None:
    """Contradictions that need no model to be seen."""
    check_output(options.output, plan.task)
    if options.comparison is not None and plan.task == TEXT2IMAGE:
        raise UserError(f"--comparison {options.comparison}: an image does not play; use --strip.")
    if options.comparison is not None:
        check_output(options.comparison, plan.task)
    if plan.task == TEXT2IMAGE:
        if options.input is not None:
            raise UserError(f"--input {options.input}: Text2Image takes no input; drop it or use a video2world model.")
        return
    if options.input is None:
        raise UserError("Video2World continues a picture: give --input with an image or a video.")
    if plan.num_frames <= options.num_conditional_frames:
        raise UserError(
            f"--num-frames {plan.num_frames} leaves nothing to generate after {options.num_conditional_frames} "
            "conditional frame(s); use more frames."
        )


def _encode(options: DiffusionOptions, plan: Plan, device: torch.device) -> _Inputs:
    """Read the inputs and run the text encoder and, for Video2World, the video tokenizer's encoder.

    The tokenizer is loaded for an image as well: better now than after sampling, if it is not the right one.
    """
    given = None
    if plan.task == VIDEO2WORLD:  # before the encoders are loaded: a bad input should be told at once
        assert options.input is not None, "see `_check`"
        given = read_conditional_frames(
            options.input,
            count=options.num_conditional_frames,
            height=plan.height,
            width=plan.width,
            from_start=options.takes_first_frames(options.input),
        )
    tokenizer = _load_tokenizer(plan, device)
    scale, frames = tokenizer.spatial_compression, tokenizer.latent_frames(plan.num_frames)
    count = (
        conditional_latent_frames(options.num_conditional_frames, tokenizer, plan.objective) if given is not None else 0
    )
    assert options.prompt is not None, "the options see to it"
    text, uncond = _encode_text(options.prompt, plan, device)
    inputs = _Inputs(
        latent_T_H_W=(frames, plan.height // scale, plan.width // scale),
        text_1_L_E=text,
        uncond_1_L_E=uncond,
    )
    if given is None:
        return inputs
    gt_frames = encode_conditional_frames(given, tokenizer, frames)
    return replace(inputs, given_latent_frames=count, given_T_3_H_W=given, gt_frames_1_C_T_H_W=gt_frames)


def _load_tokenizer(plan: Plan, device: torch.device) -> VideoTokenizer:
    """Load the tokenizer in the precision that its latents were made in.

    Raises:
        UserError: there is none, or one that makes tokens.
    """
    tokenizer = load_video_tokenizer(plan.tokenizer, device=device)
    if is_discrete(tokenizer):
        raise UserError(
            f"--tokenizer {plan.tokenizer} makes token ids; a diffusion model needs one that makes latents."
        )
    return cast(VideoTokenizer, tokenizer)


def _encode_text(prompt: str, plan: Plan, device: torch.device) -> tuple[Tensor, Tensor | None]:
    """Embeddings of the prompt and of what guidance leads away from, [1, L, E] float32."""
    encoder = load_t5(plan.text_encoder, device=device, dtype=compute_dtype(device))  # T5-11B in float32 is 19 GB
    guided = plan.guidance != 0
    prompts = [prompt] + ([plan.negative_prompt] if guided and plan.negative_prompt else [])
    embeddings = [pad_text(embedding, plan.text_length)[None] for embedding in encoder.encode(prompts)]
    if len(embeddings) == 2:
        return embeddings[0], embeddings[1]
    if guided and plan.task == TEXT2IMAGE:
        return embeddings[0], torch.zeros_like(embeddings[0])
    # Video2World without a negative prompt: uncond equals cond, guidance changes nothing.
    return embeddings[0], None


def _sample(
    options: DiffusionOptions, plan: Plan, source: Source, inputs: _Inputs, world: World, *, progress: bool
) -> Tensor:
    """Load the network and sample latents; the same on every rank."""
    model = source.load(dtype=compute_dtype(world.device, options.dtype), device=world.device)
    mask = None
    if inputs.gt_frames_1_C_T_H_W is not None:
        mask = first_frames_mask(inputs.gt_frames_1_C_T_H_W, inputs.given_latent_frames)
    conditions = Conditions(
        crossattn_emb_B_L_E=inputs.text_1_L_E,
        condition_mask_B_1_T_H_W=mask,
        fps_B=None if plan.task == TEXT2IMAGE else torch.tensor([plan.fps]),
    )
    with progress_bar("sampling", options.num_steps, shown=progress and world.rank == 0) as show:
        return sample_latents(
            model,
            plan.objective,
            conditions,
            noise_1_C_T_H_W=unit_noise((1, model.config.out_channels, *inputs.latent_T_H_W), seed=options.seed),
            uncond_1_L_E=inputs.uncond_1_L_E,
            guidance=plan.guidance,
            num_steps=options.num_steps,
            sampler=options.sampler,
            given_1_C_T_H_W=inputs.gt_frames_1_C_T_H_W,
            on_step=show,
        )


def _write(options: DiffusionOptions, plan: Plan, inputs: _Inputs, latents: Tensor, device: torch.device) -> list[Path]:
    """Decode the latents and write the video or image, the strip and the comparison."""
    truth = None
    if options.truth is not None and (options.strip or options.comparison):
        truth = cover_and_crop(read_clip(options.truth, first=plan.num_frames), plan.height, plan.width)
    frames = to_frames(_load_tokenizer(plan, device).decode(latents))
    if plan.task == TEXT2IMAGE:
        paths = [write_image(frames[0], options.output)]
    else:
        paths = [write_video(frames, options.output, fps=plan.fps)]
    rows = [StripRow(label="generated", frames_T_3_H_W=frames)]
    if inputs.given_T_3_H_W is not None:
        rows.insert(0, StripRow(label="input", frames_T_3_H_W=inputs.given_T_3_H_W))
    if truth is not None:
        rows.append(StripRow(label="truth", frames_T_3_H_W=truth))
    return paths + write_views(
        rows,
        num_frames=len(frames),
        fps=plan.fps,
        strip=options.strip,
        columns=options.strip_frames,
        comparison=options.comparison,
    )
