"""Shards of video files to batches of clips: a window in time and space of every file, decoded as it is read.

Reads what `data_prep shards --for tokenizer` wrote, and bare folders of tars that hold nothing but ``1.mp4 2.mp4 ...``.
What is cut out of a file is keyed by (seed, sample, pass over the data): it does not depend on the number of readers,
and it is the same after a resume.
"""

from typing import Any

import torch
from megatron.energon import MapDataset, Sample, WorkerConfig, basic_sample_keys, edataclass, stateless
from megatron.energon.flavors.base_dataset import SavableDataset

from cosmos_nemo.data.batch import VideoBatch
from cosmos_nemo.data.clips import Clip, cut
from cosmos_nemo.data.encoders import CookedSample, SampleTaskEncoder, SkippedSamples, shard_of
from cosmos_nemo.data.manifest import Manifest
from cosmos_nemo.data.schema import SampleError, VideoSample, sample_id
from cosmos_nemo.data.window import ClipWindow
from cosmos_nemo.media.pictures import VideoError


@edataclass
class CookedVideo(CookedSample):
    """A file that is about to be read for the n-th time."""

    pass_index: int


@edataclass
class CutVideo(Sample):
    """A clip of a file."""

    content: Any


class RawVideoTaskEncoder(SampleTaskEncoder[VideoSample, VideoBatch]):
    """Makes `VideoBatch`es of video files. Files that cannot be used are skipped, and counted with the reason."""

    sample_type = VideoSample

    def __init__(
        self,
        manifest: Manifest | None = None,
        skipped: SkippedSamples | None = None,
        *,
        window: ClipWindow,
        seed: int = 0,
    ) -> None:
        """Make a task encoder.

        Args:
            manifest: see `SampleTaskEncoder`; also `skipped`.
            skipped: counts the samples that cannot be read.
            window: what is cut out of every file.
            seed: of what is random about it.
        """
        super().__init__(manifest, skipped)
        self.window = window
        self.seed = seed
        self._sources: list[SavableDataset[Any]] = []

    def build_cook_crude_sample(
        self, dataset: SavableDataset[Any], *, worker_config: WorkerConfig, **settings: Any
    ) -> MapDataset[Any, Any]:
        """Notes how many files there are, so that `cook` can count passes."""
        self._sources.append(dataset)
        return super().build_cook_crude_sample(dataset, worker_config=worker_config, **settings)

    @stateless
    def cook(self, raw: dict[str, Any]) -> CookedSample:
        """Keep the file as it is: shuffling then holds compressed files in memory, not clips."""
        cooked = super().cook(raw)
        return CookedVideo(**basic_sample_keys(raw), content=cooked.content, pass_index=self._pass_index())

    def _pass_index(self) -> int:
        """How often this reader has gone through its files.

        Energon counts the samples that a reader has cooked, over all passes, and restores the count. The files of a
        blend are not read equally often: there every count stands for itself, which is as unique.
        """
        config = WorkerConfig.active_worker_config
        assert config is not None
        count = (self.current_sample_index - config.rank_worker_id()) // max(config.num_workers, 1)
        return count // self._sources[0].len_worker() if len(self._sources) == 1 else count

    @stateless
    def encode_sample(self, sample: CookedVideo) -> CutVideo:
        """Cut a clip out of a file."""
        try:
            clip = cut(sample.content, self.window, seed=self.seed, pass_index=sample.pass_index)
        except VideoError as error:
            self.skip(SampleError(f"sample {sample.__key__!r}: {error}"), shard_of(sample))
        self.skipped.good()
        return CutVideo(
            __key__=sample.__key__,
            __restore_key__=sample.__restore_key__,
            __subflavors__=sample.__subflavors__,
            __sources__=sample.__sources__,
            content=clip,
        )

    def collate(self, samples: list[Clip]) -> VideoBatch:  # type: ignore[override]  # clips, not the files
        """Stack clips."""
        return VideoBatch(
            video_B_3_T_H_W=torch.stack([clip.video_3_T_H_W for clip in samples]),
            fps_B=torch.tensor([clip.fps for clip in samples], dtype=torch.float32),
            start_B=torch.tensor([clip.start for clip in samples], dtype=torch.int64),
            sample_id_B=torch.tensor([sample_id(clip.key) for clip in samples], dtype=torch.int64),
            keys=[clip.key for clip in samples],
        )
