"""Make the samples of a shard: latents, token ids, or the video itself."""

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path

from torch import Tensor

from cosmos_nemo.data.schema import AnySample, DiffusionSample, SampleInfo, TokenSample, VideoSample, to_parts
from cosmos_nemo.media.fit import Fit
from cosmos_nemo.media.frames import iter_frames, read_indices, resampled_indices
from cosmos_nemo.media.pictures import read_image, resize, to_unit
from cosmos_nemo.media.probe import VideoProbe, probe_video
from cosmos_nemo.media.writing import even_size
from data_prep.folders.embeddings import read_embedding
from data_prep.making import mp4
from data_prep.making.bucket import bucket_of
from data_prep.making.encoders import Encoders
from data_prep.making.options import ShardOptions
from data_prep.making.plan import Chunk


class SampleMaker:
    """Turns chunks into samples with the options' encoders, which are loaded on first use.

    Args:
        options: what to make.
        encoders: with which networks.
        scratch: a file name that is free for this maker alone.
    """

    def __init__(self, options: ShardOptions, encoders: Encoders, scratch: Path) -> None:
        self.options = options
        self.encoders = encoders
        self.scratch = scratch

    def texts(self, chunks: Sequence[Chunk]) -> list[Tensor | None]:
        """Embed the captions; embeddings that come from files are read when the sample is made."""
        if self.options.text_source != "encoder":
            return [None] * len(chunks)
        return list(self.encoders.text_encoder().encode([chunk.clip.caption for chunk in chunks]))

    def make(self, chunk: Chunk, text_L_E: Tensor | None) -> AnySample:
        """Read one window of a source, and encode it.

        Returns:
            a sample; the media of a video stay in `scratch` or in the source, see `parts`.

        Raises:
            VideoError: it cannot be decoded.
        """
        import torch

        if text_L_E is None and chunk.clip.embedding is not None:
            text_L_E = read_embedding(chunk.clip.embedding)
        if self.options.kind == "video":
            return self._video(chunk, text_L_E)
        pixels_1_3_T_H_W = to_unit(self._pixels(chunk)[None])
        info = self._info(chunk, pixels_1_3_T_H_W.shape[-2:])
        if self.options.kind == "tokens":
            ids_T_H_W = self.encoders.video_tokenizer().encode(pixels_1_3_T_H_W)[0]
            return TokenSample(key=chunk.key, tokens_T_H_W=ids_T_H_W.to(torch.int32), text_L_E=text_L_E, info=info)
        assert text_L_E is not None, "the options see to it that latents have text"
        latent_C_T_H_W = self.encoders.video_tokenizer().encode(pixels_1_3_T_H_W)[0]
        dtype = getattr(torch, self.options.latent_dtype)
        return DiffusionSample(key=chunk.key, latent_C_T_H_W=latent_C_T_H_W.to(dtype), text_L_E=text_L_E, info=info)

    def parts(self, chunk: Chunk, sample: AnySample) -> Mapping[str, bytes | Path]:
        """Return what goes into the tar; of files that may be long only the path."""
        parts: dict[str, bytes | Path] = dict(to_parts(sample))
        if isinstance(sample, VideoSample):
            made = self.options.mp4 != "copy" and not chunk.clip.is_image
            parts[sample.media_part] = self.scratch if made else chunk.clip.path
        return parts

    def _pixels(self, chunk: Chunk) -> Tensor:
        """Read the frames of a chunk, uint8 RGB, shape [3, T, H, W]."""
        clip, size, fit = chunk.clip, self._size(), self.options.fit
        if clip.is_image:
            assert size is not None
            return resize(read_image(clip.path), size, fit=fit)[:, None]
        probe = _probe(clip.path)
        return read_indices(clip.path, probe, self._indices(chunk, probe), size=size, fit=fit)

    def _indices(self, chunk: Chunk, probe: VideoProbe) -> Sequence[int]:
        """Return the frames of the source that the chunk shows."""
        fps = self.options.fps
        frames = range(probe.num_frames) if fps is None else resampled_indices(probe, fps)
        return frames[chunk.start : chunk.start + chunk.num_frames]

    def _size(self) -> tuple[int, int] | None:
        height, width = self.options.height, self.options.width
        return None if height is None or width is None else (height, width)

    def _video(self, chunk: Chunk, text_L_E: Tensor | None) -> VideoSample:
        clip = chunk.clip
        suffix = clip.path.suffix.lower().removeprefix(".")
        size = (clip.height, clip.width)
        if clip.is_image or self.options.mp4 == "copy":
            if not clip.is_image:
                self._decodes(clip.path)
        elif self.options.mp4 == "remux":
            mp4.remux(clip.path, self.scratch)
            self._decodes(self.scratch)
        else:
            size = self._size() or even_size(*size)
            mp4.encode(self._frames(chunk, size), self.scratch, size=size, fps=clip.fps)
        info = self._info(chunk, size)
        return VideoSample(key=chunk.key, media=b"", media_part=suffix, text_L_E=text_L_E, info=info)

    def _frames(self, chunk: Chunk, size: tuple[int, int]) -> Iterator[Tensor]:
        # Without a size of its own, an odd picture loses its last row or column; nothing is scaled.
        fit: Fit = self.options.fit if self._size() else "cover"
        probe = _probe(chunk.clip.path)
        return iter_frames(chunk.clip.path, probe, self._indices(chunk, probe), size=size, fit=fit)

    def _decodes(self, file: Path) -> None:
        """Decode a whole file once, so that training meets no broken one.

        Raises:
            VideoError: a frame cannot be decoded.
        """
        for _ in iter_frames(file, probe_video(file)):
            pass

    def _info(self, chunk: Chunk, size: Sequence[int]) -> SampleInfo:
        clip = chunk.clip
        image = clip.is_image or chunk.num_frames == 1
        start = chunk.start
        if self.options.fps is not None and not clip.is_image:
            start = resampled_indices(_probe(clip.path), self.options.fps)[chunk.start]
        bucket = bucket_of(height=clip.height, width=clip.width, num_frames=clip.source_num_frames)
        return SampleInfo(
            kind="image" if image else "video",
            source=clip.source,
            caption=clip.caption,
            start_frame=start,
            num_frames=chunk.num_frames,
            fps=0.0 if image else clip.fps,
            height=size[0],
            width=size[1],
            source_height=clip.height,
            source_width=clip.width,
            source_num_frames=clip.source_num_frames,
            extra={"bucket": bucket},
        )


@lru_cache(maxsize=2)  # a probe grows with its video: a worker keeps the one at hand
def _probe(path: Path) -> VideoProbe:
    return probe_video(path)
