"""The encoders: their files are checked at once, their weights are loaded on first use."""

from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

from cosmos_nemo.data.manifest import EncoderRef
from cosmos_nemo.errors import UserError
from cosmos_nemo.files import file_sha256
from cosmos_nemo.platform.devices import pick_device
from cosmos_nemo.tokenizers.load import find_video_tokenizer, is_discrete, load_video_tokenizer
from cosmos_nemo.tokenizers.text import T5TextEncoder, find_t5, load_t5
from data_prep.making.options import ShardOptions


class Encoders:
    """Video tokenizer and text encoder, as far as the options ask for them.

    Args:
        options: names their paths.
        device: where to load them: "auto", "cpu", "cuda" or "cuda:1".
    """

    def __init__(self, options: ShardOptions, *, device: str = "auto") -> None:
        self._options = options
        self._device = device
        self._paths: dict[str, Path] = {}
        self._files: dict[str, tuple[Path, ...]] = {}
        if options.kind != "video" and options.video_tokenizer is not None:
            self._paths["video_tokenizer"] = options.video_tokenizer
            self._files["video_tokenizer"] = find_video_tokenizer(options.video_tokenizer)
        if options.text_source == "encoder" and options.text_encoder is not None:
            self._paths["text_encoder"] = options.text_encoder
            self._files["text_encoder"] = find_t5(options.text_encoder)
        self._loaded: dict[str, Any] = {}

    @cached_property
    def refs(self) -> dict[str, EncoderRef]:
        """Paths and hashes of the encoders in use."""
        return {
            name: EncoderRef(path=str(self._paths[name].expanduser().resolve()), sha256=file_sha256(*files))
            for name, files in self._files.items()
        }

    def settings(self) -> dict[str, Any]:
        """Return the same as plain values."""
        return {name: asdict(ref) for name, ref in self.refs.items()}

    def video_tokenizer(self) -> Any:
        """Return the video tokenizer, on its device."""
        if "video_tokenizer" not in self._loaded:
            tokenizer = load_video_tokenizer(self._paths["video_tokenizer"], device=pick_device(self._device))
            _check_fit(tokenizer, self._options)
            self._loaded["video_tokenizer"] = tokenizer
        return self._loaded["video_tokenizer"]

    def text_encoder(self) -> T5TextEncoder:
        """Return the text encoder, on its device."""
        if "text_encoder" not in self._loaded:
            self._loaded["text_encoder"] = load_t5(self._paths["text_encoder"], device=pick_device(self._device))
        return self._loaded["text_encoder"]


def _check_fit(tokenizer: Any, options: ShardOptions) -> None:
    """Raise if a video tokenizer does not suit the options.

    Raises:
        UserError: it makes something else, or the clips do not fit it.
    """
    if is_discrete(tokenizer) != (options.kind == "tokens"):
        made, wanted = ("token ids", "latents") if is_discrete(tokenizer) else ("latents", "token ids")
        raise UserError(
            f"--video-tokenizer {tokenizer.path} makes {made}, but the task {options.task} needs {wanted}; give another"
        )
    tokenizer.latent_frames(options.num_frames)
    for name, value in (("--height", options.height), ("--width", options.width)):
        multiple = tokenizer.spatial_compression
        if value is not None and value % multiple:
            raise UserError(f"{name} {value} must be a multiple of {multiple} for this video tokenizer")
