"""Fetch the data sets and checkpoints that the guides name from the Hugging Face hub; nothing else uses the network."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cosmos_nemo.errors import UserError

HUB = "https://huggingface.co"


@dataclass(frozen=True, kw_only=True)
class HubItem:
    """Something to download."""

    repo: str
    """Organisation and name on the hub."""
    place: str
    """Folder below the output folder: the one that the guides use."""
    description: str
    """What the list of downloads says about it."""
    kind: str = "model"
    """What the hub calls it: "model" or "dataset"."""
    only: tuple[str, ...] = ()
    """Patterns of the files to fetch; all if empty."""
    without: tuple[str, ...] = ()
    """Patterns of files to omit."""
    rename: tuple[str, str] | None = None
    """A folder that the guides rename, and its new name."""

    @property
    def page(self) -> str:
        """Where people see it."""
        return f"{HUB}/{'datasets/' if self.kind == 'dataset' else ''}{self.repo}"


def _model(repo: str, description: str, **options: Any) -> HubItem:
    """Describe a model of the guides about Predict2, which keep the organisation in the path."""
    return HubItem(repo=repo, place=f"checkpoints/{repo}", description=description, **options)


def _predict1(name: str, description: str) -> HubItem:
    """Describe a model of the guides about Predict1, which have it directly below `checkpoints`."""
    return HubItem(repo=f"nvidia/{name}", place=f"checkpoints/{name}", description=description)


ITEMS: dict[str, HubItem] = {
    "cosmos-nemo-assets": HubItem(
        repo="nvidia/Cosmos-NeMo-Assets",
        kind="dataset",
        place="datasets/cosmos_nemo_assets",
        description="videos of a teal robot, for a first post-training",
        only=("*.mp4*",),
        rename=("nemo_diffusion_example_data", "videos"),
    ),
    "hdvila": HubItem(
        repo="TempoFunk/hdvila-100M",
        kind="dataset",
        place="datasets/hdvila",
        description="clip descriptions for `hdvila`",
        only=("hdvila-100M.jsonl",),
    ),
    # Half of the T5-11B repository is the same weights for another framework.
    "t5-11b": _model("google-t5/t5-11b", "text encoder", without=("tf_model.h5",)),
    "predict2-2b-video2world": _model("nvidia/Cosmos-Predict2-2B-Video2World", "with its video tokenizer"),
    "predict2-14b-video2world": _model("nvidia/Cosmos-Predict2-14B-Video2World", "with its video tokenizer"),
    "predict2-2b-text2image": _model("nvidia/Cosmos-Predict2-2B-Text2Image", "with its video tokenizer"),
    "predict2-14b-text2image": _model("nvidia/Cosmos-Predict2-14B-Text2Image", "with its video tokenizer"),
    "guardrail": _model("nvidia/Cosmos-1.0-Guardrail", "safety checks for NVIDIA's own pipelines; not used here"),
    "predict1-7b-video2world": _predict1("Cosmos-Predict1-7B-Video2World", "diffusion"),
    "predict1-7b-text2world": _predict1("Cosmos-Predict1-7B-Text2World", "diffusion"),
    "predict1-14b-video2world": _predict1("Cosmos-Predict1-14B-Video2World", "diffusion"),
    "predict1-14b-text2world": _predict1("Cosmos-Predict1-14B-Text2World", "diffusion"),
    "predict1-4b": _predict1("Cosmos-Predict1-4B", "autoregressive"),
    "predict1-12b": _predict1("Cosmos-Predict1-12B", "autoregressive"),
    "predict1-5b-video2world": _predict1("Cosmos-Predict1-5B-Video2World", "autoregressive, with text"),
    "predict1-13b-video2world": _predict1("Cosmos-Predict1-13B-Video2World", "autoregressive, with text"),
    "tokenize1-cv8x8x8": _predict1("Cosmos-Tokenize1-CV8x8x8-720p", "continuous tokenizer of Predict1"),
    "tokenize1-dv8x16x16": _predict1("Cosmos-Tokenize1-DV8x16x16-720p", "discrete tokenizer of Predict1"),
    "tokenize1-cv4x8x8": _predict1("Cosmos-Tokenize1-CV4x8x8-360p", "continuous video tokenizer for small videos"),
    "tokenize1-dv4x8x8": _predict1("Cosmos-Tokenize1-DV4x8x8-360p", "discrete video tokenizer for small videos"),
    "tokenizer-cv8x8x8": _model("nvidia/Cosmos-1.0-Tokenizer-CV8x8x8", "continuous video tokenizer"),
    "tokenizer-dv8x16x16": _model("nvidia/Cosmos-1.0-Tokenizer-DV8x16x16", "discrete video tokenizer"),
}


def lookup(name: str) -> HubItem:
    """Find an item by its name here or by that of its repository.

    Raises:
        UserError: there is no such item; the message names the nearest.
    """
    import difflib

    names = {**ITEMS, **{item.repo: item for item in ITEMS.values()}}
    if name in names:
        return names[name]
    close = difflib.get_close_matches(name.lower(), ITEMS, n=3, cutoff=0.4)
    hint = f"did you mean {' or '.join(close)}? " if close else ""
    raise UserError(f"{name} is not a known download; {hint}`python -m data_prep download` lists them")


def fetch(item: HubItem, output: Path, *, revision: str | None = None, workers: int) -> Path:
    """Download an item. Files that are there already are kept, and an interrupted download is continued.

    Args:
        item: what to download.
        output: folder under which `item.place` is made.
        revision: branch, tag or commit; the main branch if None.
        workers: files at a time.

    Returns:
        the folder.

    Raises:
        UserError: it failed; the message says why and what to do.
    """
    import huggingface_hub

    target = output / item.place
    try:
        huggingface_hub.snapshot_download(
            item.repo,
            repo_type=item.kind,
            revision=revision,
            local_dir=target,
            allow_patterns=list(item.only) or None,
            ignore_patterns=list(item.without) or None,
            max_workers=workers,
        )
    except Exception as error:
        message = explain(error, item)
        if message is None:
            raise
        raise UserError(message) from error
    if item.rename is not None:
        old, new = (target / name for name in item.rename)
        if old.is_dir() and not new.exists():
            os.replace(old, new)
    return target


def explain(error: Exception, item: HubItem) -> str | None:
    """Say in one line why a download failed; None if neither the hub nor the network nor the disk is to blame."""
    import requests
    from huggingface_hub import errors

    if isinstance(error, errors.LocalEntryNotFoundError) and isinstance(error.__cause__, errors.HfHubHTTPError):
        error = error.__cause__  # what the hub answered says more than that nothing is here yet
    token = "log in with `huggingface-cli login`, or set HF_TOKEN"
    if isinstance(error, errors.GatedRepoError):
        return f"{item.repo} has terms to accept: do so at {item.page} and {token} (a token with read access)"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"{item.repo} has no such revision; see {item.page}"
    if isinstance(error, errors.RepositoryNotFoundError):
        return f"{item.repo} does not exist, or is not open to you: look at {item.page}, and if it is there, {token}"
    if isinstance(error, errors.LocalTokenNotFoundError):
        return f"{item.repo} needs a token: {token}"
    offline = (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled, requests.ConnectionError, requests.Timeout)
    if isinstance(error, offline):
        hint = " (HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE", "0") not in ("", "0") else ""
        return (
            f"the hub cannot be reached{hint}: check the network, or set HF_ENDPOINT to a mirror; "
            f"files copied to {item.place} by hand are used as well"
        )
    if isinstance(error, errors.HfHubHTTPError):
        status = error.response.status_code if error.response is not None else "unknown"
        if status in (401, 403):
            return f"the hub refused the token for {item.repo} (status {status}): {token}, with read access"
        return f"the hub answered with status {status} for {item.repo}; run the command again to continue"
    if isinstance(error, OSError):
        return f"{item.place} cannot be written: {error.strerror or error}"
    return None
