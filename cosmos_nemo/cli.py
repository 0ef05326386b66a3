"""`cosmos-nemo`: every command of the project in one place. Rooms are imported by the command that needs them."""

from __future__ import annotations

import json
import logging
import os
import sys
import warnings
from pathlib import Path
from typing import Annotated

import typer

from cosmos_nemo.checkpoints.cli import ckpt
from cosmos_nemo.errors import UserError

app = typer.Typer(
    name="cosmos-nemo",
    help="Post-train NVIDIA Cosmos world models: videos -> shards -> training -> checkpoint -> video.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(ckpt, name="ckpt")

# The command's own parser reads the rest of the line, --help included.
_PASS_THROUGH = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


@app.command()
def recipes(as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False) -> None:
    """List the recipes."""
    from cosmos_nemo import catalog

    if as_json:
        print(json.dumps([{"name": entry.name, "description": entry.description} for entry in catalog.ENTRIES]))
    else:
        print(catalog.listing())


@app.command(context_settings=_PASS_THROUGH)
def recipe(context: typer.Context) -> None:
    """Run a recipe: NAME key=value ...; like `nemo run recipe`, without loading NeMo's own plug-ins."""
    from recipes.launch import command as launch

    raise typer.Exit(launch.main(context.args, prog="cosmos-nemo recipe"))


@app.command(context_settings=_PASS_THROUGH)
def prep(context: typer.Context) -> None:
    """Prepare data: sample videos, tiny encoders, shards; the same as `python -m data_prep`."""
    from data_prep.__main__ import app as data_prep

    data_prep(context.args, prog_name="cosmos-nemo prep")


@app.command()
def golden(
    paths: Annotated[list[Path], typer.Argument(help="Folders of golden cases, such as ../shared/golden/dit.")],
    filter: Annotated[str | None, typer.Option(help="Only cases whose name matches this pattern.")] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="One row per quantity.")] = False,
) -> None:
    """Compare this project's models with golden vectors: one row per case, exit code 1 on any difference."""
    from cosmos_nemo.golden.runner import run

    raise typer.Exit(run(paths, filter=filter, verbose=verbose))


@app.command()
def generate(
    checkpoint: Annotated[Path, typer.Option(help="A run's folder, one of its iter_* folders, or published weights.")],
    output: Annotated[Path, typer.Option(help="The .mp4 (or .png for an image) to write; of several inputs a folder.")],
    input: Annotated[
        list[Path], typer.Option(help="Image or video that the generated video starts from; ar: may be repeated.")
    ] = [],  # noqa: B006
    prompt: Annotated[str | None, typer.Option(help="What happens in the video.")] = None,
    model: Annotated[
        str, typer.Option(help="The family it has to be of: predict2 or autoregressive; auto takes any.")
    ] = "auto",
    seed: Annotated[int | None, typer.Option(help="Seed of all that is drawn; 0 if left out.")] = None,
    truth: Annotated[Path | None, typer.Option(help="The real continuation, shown in the strip.")] = None,
    strip: Annotated[Path | None, typer.Option(help="Also write a PNG: input | generated | truth.")] = None,
    strip_frames: Annotated[int | None, typer.Option(help="Frames in the strip; 8 if left out.")] = None,
    comparison: Annotated[Path | None, typer.Option(help="Also write an mp4 that plays the same side by side.")] = None,
    input_frames: Annotated[
        str | None,
        typer.Option(help="Frames of an input video to take: last, first, or auto (first if it is also --truth)."),
    ] = None,
    tokenizer: Annotated[
        Path | None, typer.Option("--tokenizer", "--vae", help="Video tokenizer; the training data's if left out.")
    ] = None,
    text_encoder: Annotated[Path | None, typer.Option(help="T5 encoder; the training data's if left out.")] = None,
    height: Annotated[int | None, typer.Option(help="Pixels; the training data's if left out.")] = None,
    width: Annotated[int | None, typer.Option(help="Pixels; the training data's if left out.")] = None,
    num_frames: Annotated[
        int | None, typer.Option(help="Frames, 4k+1 (ar: 8k+1); the training data's if left out.")
    ] = None,
    fps: Annotated[float | None, typer.Option(help="Frames per second; the training data's if left out.")] = None,
    ema: Annotated[bool, typer.Option("--ema", help="Take the averaged weights.")] = False,
    dtype: Annotated[str | None, typer.Option(help="float32 or bfloat16; by device if left out.")] = None,
    tensor_model_parallel_size: Annotated[
        int | None, typer.Option(help="Under torchrun: ranks that share the weights.")
    ] = None,
    num_steps: Annotated[int | None, typer.Option(help="Diffusion: sampler steps; 35 if left out.")] = None,
    sampler: Annotated[str | None, typer.Option(help="Diffusion: 2ab or euler; the published 2ab if left out.")] = None,
    guidance: Annotated[
        float | None, typer.Option(help="Diffusion: guidance; 7 for video, 4 for images if left out.")
    ] = None,
    negative_prompt: Annotated[
        str | None, typer.Option(help="Diffusion: what it must not look like; the published one if left out.")
    ] = None,
    num_conditional_frames: Annotated[
        int | None,
        typer.Option(help="Diffusion: pixel frames taken from the input: 1, 5 (Wan) or 9 (CV8x8x8); 1 if left out."),
    ] = None,
    task: Annotated[str | None, typer.Option(help="Diffusion: auto, video2world or text2image.")] = None,
    context_parallel_size: Annotated[
        int | None, typer.Option(help="Diffusion, under torchrun: ranks that share the tokens of the video.")
    ] = None,
    num_input_frames: Annotated[
        int | None, typer.Option(help="Ar: pixel frames taken from the input, 1 or 9; 9 if left out.")
    ] = None,
    top_p: Annotated[
        float | None, typer.Option(help="Ar: draw from the tokens that reach this probability; 0.8 if left out.")
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(help="Ar: divides the logits, 0 is greedy; 1 if left out.")
    ] = None,
    batch_input: Annotated[
        Path | None, typer.Option(help='Ar: file of lines {"visual_input": FILE, "prompt": TEXT}, one per video.')
    ] = None,
    batch_size: Annotated[int | None, typer.Option(help="Ar: videos generated at once; 4 if left out.")] = None,
    offload_tokenizer: Annotated[
        bool | None, typer.Option("--offload-tokenizer", help="Ar: free the tokenizer's memory while generating.")
    ] = None,
) -> None:
    """Generate a video or an image from a checkpoint."""
    choices = dict(locals())  # the options of this command are the fields of the families' options, name by name
    from cosmos_nemo.inference.generate import generate as run

    result = run(**choices)
    for path in result.paths:
        print(f"wrote {path}")
    if result.paths:
        print(f"in {result.seconds:.0f} s")


@app.command()
def plot(
    run_dirs: Annotated[list[Path], typer.Argument(help="Run folders; each holds metrics.jsonl.")],
    output: Annotated[Path, typer.Option(help="PNG to write.")],
    window: Annotated[
        int | None, typer.Option(help="Steps of the running mean; a tenth of the run if left out.")
    ] = None,
) -> None:
    """Draw the loss of one or several runs."""
    from cosmos_nemo.report.loss_curve import plot_loss

    for name, (first, last) in plot_loss(run_dirs, output, window).items():
        print(f"{name}: loss {first:.3f} -> {last:.3f}")
    print(f"wrote {output}")


@app.command()
def report(
    output: Annotated[Path, typer.Argument(help="HTML file to write; everything is embedded in it.")],
    run: Annotated[list[Path], typer.Option(help="Run folder that holds metrics.jsonl; may be repeated.")],
    media: Annotated[list[str], typer.Option(help="CAPTION=FILE, a picture or mp4; may be repeated.")] = [],  # noqa: B006
    timings: Annotated[Path | None, typer.Option(help="File of lines 'what was done<TAB>seconds'.")] = None,
    next: Annotated[list[str], typer.Option(help="A command for the reader; may be repeated.")] = [],  # noqa: B006
    title: Annotated[str, typer.Option(help="Heading of the page.")] = "Post-training report",
) -> None:
    """Write one page that shows runs: loss curves, pictures, videos, timings, next commands."""
    from cosmos_nemo.report import page

    page.write_page(
        output,
        title=title,
        run_dirs=run,
        media=[page.parse_media(text) for text in media],
        timings=page.read_timings(timings) if timings else (),
        next_commands=next,
    )
    print(f"wrote {output}")


@app.command()
def reconstruct(
    input: Annotated[Path, typer.Argument(help="Video (or image) to encode and decode.")],
    output: Annotated[Path, typer.Argument(help="The .mp4 to write: original | reconstruction.")],
    tokenizer: Annotated[Path, typer.Option(help="Cosmos tokenizer folder (autoencoder.jit ...), or a Wan VAE.")],
    chunk_frames: Annotated[int, typer.Option(help="Frames after which coding starts afresh.")] = 121,
    max_frames: Annotated[int | None, typer.Option(help="Stop after this many frames.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; cuda if there is any.")] = None,
) -> None:
    """Show what a video tokenizer keeps: side by side as a video, PSNR and SSIM as numbers."""
    choices = dict(locals())  # the options of this command are the fields of ReconstructOptions, name by name
    from cosmos_nemo.inference import reconstruct as room

    print(room.reconstruct(room.ReconstructOptions(**choices)))


@app.command()
def latent_statistics(
    tokenizer: Annotated[Path, typer.Argument(help="Folder of a continuous Cosmos tokenizer; gets mean_std.pt.")],
    videos: Annotated[list[Path], typer.Argument(help="Videos like those to be encoded: files or folders.")],
    num_frames: Annotated[int, typer.Option(help="Frames taken from the start of each.")] = 121,
    max_videos: Annotated[int, typer.Option(help="Stop after this many.")] = 100,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace statistics that are there.")] = False,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; cuda if there is any.")] = None,
) -> None:
    """Measure a post-trained tokenizer's latents, so that it normalises them for a diffusion model."""
    from cosmos_nemo.inference.latent_statistics import write_latent_statistics

    choices = {"num_frames": num_frames, "max_videos": max_videos, "overwrite": overwrite, "device": device}
    print(write_latent_statistics(tokenizer, videos, **choices))


@app.command()
def doctor(
    device: Annotated[bool, typer.Option("--device/--no-device", help="Also look at GPUs.")] = True,
    assumptions: Annotated[
        bool, typer.Option("--assumptions", help="Print what Megatron-core and NeMo assume, and what is done about it.")
    ] = False,
) -> None:
    """Show versions, pins, devices and codecs; exit code 1 if something is missing."""
    from cosmos_nemo.doctor import print_assumptions, run

    if assumptions:
        print_assumptions()
        return
    raise typer.Exit(run(device=device))


def _quiet_libraries() -> None:
    """Keeps standard error for this program's own lines: importing Megatron alone prints a dozen warnings."""
    warnings.simplefilter("ignore")
    os.environ.setdefault("PYTHONWARNINGS", "ignore")  # of the helper process that writes checkpoints
    for name in ("megatron", "torch", "diffusers", "transformers"):
        logging.getLogger(name).setLevel(logging.ERROR)
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(levelname)s: %(message)s"))
    handler.addFilter(_lower_level)
    logging.getLogger("cosmos_nemo").addHandler(handler)


def _lower_level(record: logging.LogRecord) -> bool:
    """Writes `warning:` as `error:` is written."""
    record.levelname = record.levelname.lower()
    return True


def main() -> None:
    """Entry point of the `cosmos-nemo` command."""
    _quiet_libraries()
    try:
        app()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
