"""Generates videos with an autoregressive model: pixels -> tokens -> more tokens -> pixels."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cosmos_nemo.data.batch import pad_texts
from cosmos_nemo.errors import UserError
from cosmos_nemo.inference.autoregressive_options import AutoregressiveOptions
from cosmos_nemo.inference.autoregressive_plan import AutoregressivePlan, make_plan
from cosmos_nemo.inference.conditioning import read_conditional_frames
from cosmos_nemo.inference.jobs import Job, make_jobs
from cosmos_nemo.inference.options import GenerateResult
from cosmos_nemo.inference.output import write_views
from cosmos_nemo.inference.ranks import on_rank_zero, progress_bar
from cosmos_nemo.inference.source import Source
from cosmos_nemo.media.clips import cover_and_crop, read_clip, to_frames, to_video
from cosmos_nemo.media.strip import StripRow
from cosmos_nemo.media.writing import write_video
from cosmos_nemo.models.autoregressive.sampling import Pick, continue_tokens, top_p_pick
from cosmos_nemo.models.autoregressive.sequence import to_sequence
from cosmos_nemo.models.common.linear import store_by_inputs
from cosmos_nemo.parallel.process import World, model_parallel_world
from cosmos_nemo.platform.dtypes import compute_dtype
from cosmos_nemo.tokenizers.base import DiscreteVideoTokenizer
from cosmos_nemo.tokenizers.load import load_discrete_tokenizer
from cosmos_nemo.tokenizers.text import load_t5


def generate_autoregressive(options: AutoregressiveOptions, source: Source, *, progress: bool = True) -> GenerateResult:
    """Generate videos and write them.

    Runs in one process or on the tensor-parallel ranks of torchrun; rank 0 reads the inputs, runs the encoders and
    writes the files. A video's tokens do not depend on the number of ranks or on what else is generated with it.

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
    jobs = make_jobs(options)
    plan = make_plan(options, source, jobs)
    with model_parallel_world(tensor_model_parallel_size=options.tensor_model_parallel_size) as world:
        studio = Studio(
            plan,
            vocab_size=source.architecture.fields["vocab_size"],
            device=world.device,
            offload=options.offload_tokenizer,
        )
        prompts = on_rank_zero(world, lambda: studio.encode(jobs, options))
        tokens = _continue(options, plan, source, prompts, world, progress=progress)
        paths = on_rank_zero(world, lambda: studio.write(jobs, options, tokens))
    return GenerateResult(paths=tuple(paths) if world.rank == 0 else (), seconds=time.perf_counter() - start)


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """What one video begins with, on the CPU.

    Attributes:
        tokens_S: of the given frames, int64.
        sample: its identity, which randomness is keyed by.
        num_ids: ids that the tokenizer can decode; a network may know more.
        text_L_E: embedding of the prompt, zero padded; None for networks without text.
        text_mask_L: True on the prompt's tokens.
    """

    tokens_S: Tensor
    sample: int
    num_ids: int
    text_L_E: Tensor | None = None
    text_mask_L: Tensor | None = None


class Studio:
    """Reads pixels into tokens and writes tokens as pixels; used on rank 0 only."""

    def __init__(self, plan: AutoregressivePlan, *, vocab_size: int, device: torch.device, offload: bool) -> None:
        """Loads nothing yet.

        Args:
            plan: sizes and encoders.
            vocab_size: tokens that the network knows.
            device: where encoders run.
            offload: whether to free the tokenizer's memory between encoding and decoding.
        """
        self._plan, self._vocab_size, self._device, self._offload = plan, vocab_size, device, offload
        self._tokenizer: DiscreteVideoTokenizer | None = None
        self._given: list[Tensor] = []

    def encode(self, jobs: Sequence[Job], options: AutoregressiveOptions) -> list[Prompt]:
        """Read the inputs, then run the text encoder and the video tokenizer's encoder.

        Raises:
            UserError: an input is unreadable or too short, or an encoder does not fit the network.
        """
        plan = self._plan
        # Before an encoder is loaded: a bad input should be told at once.
        self._given = [
            read_conditional_frames(
                job.input,
                count=plan.num_input_frames,
                height=plan.height,
                width=plan.width,
                from_start=options.takes_first_frames(job.input),
                flag="--num-input-frames",
            )
            for job in jobs
        ]
        texts = self._encode_texts([job.prompt or "" for job in jobs])
        tokenizer = self._load(self._vocab_size)
        tokens = [given_tokens(frames, plan, tokenizer) for frames in self._given]
        if self._offload:
            self._release()
        return [
            Prompt(tokens_S=own, sample=sample, num_ids=tokenizer.vocab_size, text_L_E=text, text_mask_L=mask)
            for own, sample, (text, mask) in zip(
                tokens, sample_ids(tokens, [job.prompt for job in jobs]), texts, strict=True
            )
        ]

    def write(self, jobs: Sequence[Job], options: AutoregressiveOptions, tokens: Sequence[Tensor]) -> list[Any]:
        """Decode tokens and write every video, its strip and its comparison."""
        tokenizer = self._tokenizer or self._load(self._vocab_size)
        paths = []
        for job, given, own in zip(jobs, self._given, tokens, strict=True):
            video = tokenizer.decode(own.view(1, *self._plan.latent_shape).to(torch.int32))
            paths += self._write_one(job, given, to_frames(video), options)
        return paths

    def _write_one(self, job: Job, given: Tensor, frames: Tensor, options: AutoregressiveOptions) -> list[Any]:
        """Write one video."""
        plan = self._plan
        paths = [write_video(frames, job.output, fps=plan.fps)]
        rows = [StripRow(label="input", frames_T_3_H_W=given), StripRow(label="generated", frames_T_3_H_W=frames)]
        if options.truth is not None and (job.strip or job.comparison):
            truth = cover_and_crop(read_clip(options.truth, first=plan.num_frames), plan.height, plan.width)
            rows.append(StripRow(label="truth", frames_T_3_H_W=truth))
        return paths + write_views(
            rows,
            num_frames=len(frames),
            fps=plan.fps,
            strip=job.strip,
            columns=options.strip_frames,
            comparison=job.comparison,
        )

    def _encode_texts(self, prompts: list[str]) -> list[tuple[Tensor | None, Tensor | None]]:
        """Embedding [L, E] and mask [L] of every prompt; nothing for networks without text."""
        plan = self._plan
        if plan.text_encoder is None:
            return [(None, None)] * len(prompts)
        dtype = compute_dtype(self._device)  # T5-11B in float32 is 19 GB
        encoder = load_t5(plan.text_encoder, device=self._device, dtype=dtype)
        length = plan.text_length
        return list(zip(*pad_texts(encoder.encode(prompts), length), strict=True))

    def _load(self, vocab_size: int) -> DiscreteVideoTokenizer:
        """The tokenizer, kept for decoding."""
        self._tokenizer = load_discrete_tokenizer(
            self._plan.tokenizer, vocab_size=vocab_size, field="--tokenizer", device=self._device
        )
        return self._tokenizer

    def _release(self) -> None:
        """Free the tokenizer's memory."""
        self._tokenizer = None
        if self._device.type == "cuda":
            torch.cuda.empty_cache()


def given_tokens(frames_T_3_H_W: Tensor, plan: AutoregressivePlan, tokenizer: DiscreteVideoTokenizer) -> Tensor:
    """Tokens of the given frames: those at the beginning of a whole clip that holds the last frame to its end.

    Args:
        frames_T_3_H_W: the given frames, uint8.
        plan: sizes.
        tokenizer: the video tokenizer.

    Returns:
        tokens_S, int64, row by row (time, then height, then width).

    Raises:
        UserError: the tokenizer compresses otherwise than the network expects, or makes ids beyond its vocabulary.
    Source: Cosmos-Predict1 `autoregressive/utils/inference.py`, `inference/world_generation_pipeline.py`.
    """
    held = frames_T_3_H_W[-1:].expand(plan.num_frames - len(frames_T_3_H_W), -1, -1, -1)
    ids = tokenizer.encode(to_video(torch.cat((frames_T_3_H_W, held))))
    if tuple(ids.shape[1:]) != plan.latent_shape:
        raise UserError(
            f"{tokenizer.path} makes {tuple(ids.shape[1:])} tokens (time, height, width) of a clip, the network takes "
            f"{plan.latent_shape}; give a DV8x16x16 tokenizer."
        )
    tokens = ids.flatten()[: plan.num_given_tokens].long().cpu()
    if int(tokens.min()) < 0 or int(tokens.max()) >= tokenizer.vocab_size:
        raise UserError(
            f"{tokenizer.path} made token ids from {int(tokens.min())} to {int(tokens.max())}, but has "
            f"{tokenizer.vocab_size}: its files are damaged, or not of a DV tokenizer."
        )
    return tokens


def sample_ids(tokens: Sequence[Tensor], prompts: Sequence[str | None]) -> list[int]:
    """Identity of every video: a digest of what it begins with, and of how often that has occurred before.

    So a video is the same whatever else is generated with it, and the same input given twice gives two videos.
    """
    seen: Counter[bytes] = Counter()
    ids = []
    for own, prompt in zip(tokens, prompts, strict=True):
        content = own.numpy().tobytes() + (prompt or "").encode()
        key = hashlib.blake2b(content + seen[content].to_bytes(4, "little"), digest_size=7).digest()
        seen[content] += 1
        ids.append(int.from_bytes(key, "little"))
    return ids


def _continue(
    options: AutoregressiveOptions,
    plan: AutoregressivePlan,
    source: Source,
    prompts: Sequence[Prompt],
    world: World,
    *,
    progress: bool,
) -> list[Tensor]:
    """Load the network and generate every video's tokens; the same on every rank. Each [T * H * W], on the CPU."""
    model = source.load(dtype=compute_dtype(world.device, options.dtype), device=world.device)
    store_by_inputs(model)
    prefix, total = model.config.num_prefix_tokens, model.config.num_tokens(plan.latent_shape)
    batches = [prompts[i : i + options.batch_size] for i in range(0, len(prompts), options.batch_size)]
    given = prefix + plan.num_given_tokens
    results: list[Tensor] = []
    with progress_bar("tokens", (total - given) * len(batches), shown=progress and world.rank == 0) as show:
        for number, batch in enumerate(batches):
            offset = number * (total - given) - given
            tokens_B_S = continue_tokens(
                model,
                to_sequence(torch.stack([prompt.tokens_S for prompt in batch]), model.config).to(world.device),
                num_tokens=total,
                latent_shape=plan.latent_shape,
                pick=picker(options, batch),
                context_B_L_E=_stack([prompt.text_L_E for prompt in batch], world.device),
                context_mask_B_L=_stack([prompt.text_mask_L for prompt in batch], world.device),
                on_token=lambda length, offset=offset: show(offset + length),  # type: ignore[misc]
            )
            results += list(tokens_B_S[:, prefix:].cpu())
    return results


def picker(options: AutoregressiveOptions, batch: Sequence[Prompt]) -> Pick:
    """Draws tokens that the tokenizer can decode."""
    pick = top_p_pick(
        temperature=options.temperature,
        top_p=options.top_p,
        seed=options.seed,
        sample_ids=[prompt.sample for prompt in batch],
    )
    return lambda logits_B_V, position: pick(logits_B_V[:, : batch[0].num_ids], position)


def _stack(tensors: Sequence[Tensor | None], device: torch.device) -> Tensor | None:
    """A batch of tensors, or None if there are none."""
    present = [tensor for tensor in tensors if tensor is not None]
    return torch.stack(present).to(device) if present else None
