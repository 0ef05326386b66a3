"""Shards of token ids, with or without text embeddings, to `TokenBatch`es."""

from collections.abc import Sequence

import torch

from cosmos_nemo.data.batch import TokenBatch, pad_texts
from cosmos_nemo.data.encoders import SampleTaskEncoder, SkippedSamples
from cosmos_nemo.data.manifest import Manifest
from cosmos_nemo.data.schema import TokenSample, sample_id
from cosmos_nemo.errors import UserError


def collate_tokens(samples: Sequence[TokenSample], *, text_length: int | None) -> TokenBatch:
    """Make a batch of samples whose ids have one shape.

    Args:
        samples: at least one.
        text_length: tokens that text embeddings are padded to; None leaves text out.
    """
    text, mask = None, None
    if text_length is not None:
        texts = [s.text_L_E for s in samples if s.text_L_E is not None]
        assert len(texts) == len(samples), "checked sample by sample"
        text, mask = pad_texts(texts, text_length)
    return TokenBatch(
        tokens_B_T_H_W=torch.stack([s.tokens_T_H_W.long() for s in samples]),
        crossattn_emb_B_L_E=text,
        text_mask_B_L=mask,
        fps_B=torch.tensor([s.info.fps for s in samples], dtype=torch.float32),
        sample_id_B=torch.tensor([sample_id(s.key) for s in samples], dtype=torch.int64),
        keys=[s.key for s in samples],
    )


class TokenTaskEncoder(SampleTaskEncoder[TokenSample, TokenBatch]):
    """Makes `TokenBatch`es of the samples of one dataset."""

    sample_type = TokenSample

    def __init__(
        self,
        manifest: Manifest | None = None,
        skipped: SkippedSamples | None = None,
        *,
        text_length: int | None = None,
        vocab_size: int | None = None,
    ) -> None:
        """Make a task encoder.

        Args:
            manifest: see `SampleTaskEncoder`; also `skipped`.
            skipped: counts the samples that cannot be read.
            text_length: tokens of every text embedding in a batch; None for models without text.
            vocab_size: video token ids must be below it; None takes that of the manifest.
        """
        super().__init__(manifest, skipped)
        self.text_length = text_length
        self.vocab_size = vocab_size or (manifest.vocab_size if manifest is not None else None)
        if manifest is not None:
            self.expect("token shape", manifest.token_shape)
            self.expect("text width", manifest.text_width)

    def check(self, sample: TokenSample, shard: str) -> None:
        """Refuse another shape or text width than the dataset has, ids outside the vocabulary, and missing text."""
        shape = tuple(sample.tokens_T_H_W.shape)
        advice = " (T, H, W); prepare all clips with one size and frame count"
        self.expect_same(sample, shard, "token shape", shape, advice)
        where = f"shard {shard}, sample {sample.key!r}"
        low, high = int(sample.tokens_T_H_W.min()), int(sample.tokens_T_H_W.max())
        if low < 0 or (self.vocab_size is not None and high >= self.vocab_size):
            raise UserError(
                f"{where}: token id {low if low < 0 else high} is not in the vocabulary of {self.vocab_size}; "
                "prepare the shards with the model's video tokenizer"
            )
        if self.text_length is None:
            return
        if sample.text_L_E is None:
            raise UserError(f"{where} has no text embedding; prepare the shards with --text-encoder")
        width = sample.text_L_E.shape[1]
        self.expect_same(sample, shard, "text width", width, "; prepare all captions with one text encoder")

    def collate(self, samples: list[TokenSample]) -> TokenBatch:
        """See `collate_tokens`."""
        return collate_tokens(samples, text_length=self.text_length)
