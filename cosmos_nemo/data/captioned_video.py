"""Raw video with text embeddings to batches that are encoded in training: what `data_prep shards --raw` wrote.

The clip of a file is another one in every pass over the data; see `raw_video`.
"""

from dataclasses import dataclass

from megatron.energon import stateless
from torch import Tensor

from cosmos_nemo.data.batch import CaptionedVideoBatch, pad_texts
from cosmos_nemo.data.clips import Clip
from cosmos_nemo.data.encoders import SkippedSamples, shard_of
from cosmos_nemo.data.manifest import Manifest
from cosmos_nemo.data.raw_video import CookedVideo, CutVideo, RawVideoTaskEncoder
from cosmos_nemo.data.window import ClipWindow
from cosmos_nemo.errors import UserError


@dataclass(frozen=True, kw_only=True)
class CaptionedClip:
    """A decoded clip and the embedding of its caption."""

    clip: Clip
    text_L_E: Tensor


class CaptionedVideoTaskEncoder(RawVideoTaskEncoder):
    """Makes `CaptionedVideoBatch`es of video files with text embeddings."""

    def __init__(
        self,
        manifest: Manifest | None = None,
        skipped: SkippedSamples | None = None,
        *,
        window: ClipWindow,
        seed: int = 0,
        text_length: int = 512,
    ) -> None:
        """Make a task encoder; see `RawVideoTaskEncoder`.

        Args:
            manifest: of the dataset.
            skipped: counts the samples that cannot be read.
            window: what is cut out of every file.
            seed: of what is random about it.
            text_length: tokens of every text embedding in a batch.
        """
        super().__init__(manifest, skipped, window=window, seed=seed)
        self.text_length = text_length
        if manifest is not None:
            self.expect("text width", manifest.text_width)

    @stateless
    def encode_sample(self, sample: CookedVideo) -> CutVideo:
        """Cut a clip out of a file, and keep its text.

        Raises:
            UserError: there is no text embedding, or one of another width.
        """
        text_L_E, shard = sample.content.text_L_E, shard_of(sample)
        if text_L_E is None:
            raise UserError(
                f"shard {shard}, sample {sample.__key__!r} has no text embedding; prepare the shards with "
                "`--raw --text-encoder PATH`"
            )
        advice = "; prepare all captions with one text encoder"
        self.expect_same(sample.content, shard, "text width", text_L_E.shape[1], advice)
        cut = super().encode_sample(sample)
        cut.content = CaptionedClip(clip=cut.content, text_L_E=text_L_E)
        return cut

    def collate(self, samples: list[CaptionedClip]) -> CaptionedVideoBatch:  # type: ignore[override]  # see above
        """Stack clips and their texts."""
        video = super().collate([sample.clip for sample in samples])
        text, mask = pad_texts([sample.text_L_E for sample in samples], self.text_length)
        return CaptionedVideoBatch(**vars(video), crossattn_emb_B_L_E=text, text_mask_B_L=mask)
