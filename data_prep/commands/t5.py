"""`data_prep t5`: write text embeddings for upstream's loaders."""

from pathlib import Path
from typing import Annotated

import typer

from cosmos_nemo.errors import UserError


def t5(
    folder: Annotated[Path, typer.Argument(help="Dataset folder with metas/*.txt and videos/ or images/.")],
    text_encoder: Annotated[Path, typer.Option(help="T5 encoder folder, for example a local copy of t5-11b.")],
    images: Annotated[bool, typer.Option("--images", help="The dataset has images/ instead of videos.")] = False,
    batch_size: Annotated[int, typer.Option(help="Captions per forward pass.")] = 8,
    device: Annotated[str, typer.Option(help="Where the encoder runs: auto, cpu or cuda.")] = "auto",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Embed all captions again, for example with another encoder.")
    ] = False,
) -> None:
    """Write t5_xxl/NAME.pickle for every caption, as Cosmos' own loaders read them. Existing ones are kept.

    `shards` does not need these files: it embeds captions itself, and reads them only without --text-encoder.
    """
    from data_prep.commands.progress import bar
    from data_prep.folders.t5 import FOLDER, plan_embeddings, write_embeddings

    if batch_size < 1:
        raise UserError(f"--batch-size {batch_size} must be at least 1")
    if device not in ("auto", "cpu", "cuda"):
        raise UserError(f"--device {device} is unknown; use one of auto, cpu, cuda")
    plan = plan_embeddings(folder, images=images, overwrite=overwrite)
    if plan.todo:
        import torch

        from cosmos_nemo.platform.devices import pick_device
        from cosmos_nemo.platform.dtypes import compute_dtype
        from cosmos_nemo.tokenizers.text import load_t5

        place = pick_device(device)
        encoder = load_t5(text_encoder, device=place, dtype=compute_dtype(place))
        with bar("embedding", plan.num_files) as advance:
            write_embeddings(
                plan,
                lambda captions: encoder.encode(captions, batch_size=batch_size, dtype=torch.float32),
                batch_size=batch_size,
                on_file=advance,
            )
    written = f"{plan.num_files} files written to {folder / FOLDER}"
    typer.echo(f"{written} from {len(plan.todo)} different captions, {plan.kept} kept")
    for names, what in (
        ([f"{name} {reason}" for name, reason in plan.unusable.items()], "captions cannot be used"),
        (plan.without_caption, f"{'images' if images else 'videos'} have no caption"),
        (plan.without_media, f"captions have no {'image' if images else 'video'}"),
    ):
        if names:
            more = f" and {len(names) - 5} more" if len(names) > 5 else ""
            typer.echo(f"{len(names)} {what}: {', '.join(names[:5])}{more}")
