"""Raw video with captions."""

from functools import partial

import pytest
import torch

from cosmos_nemo.data.captioned_video import CaptionedVideoTaskEncoder
from cosmos_nemo.data.loader import train_loader
from cosmos_nemo.data.schema import VideoSample
from cosmos_nemo.data.window import ClipWindow
from cosmos_nemo.errors import UserError
from tests.data.shards import write_dataset
from tests.data.videos import clip_files

WINDOW = ClipWindow(num_frames=5, height=32, width=48)


def write_videos(folder, texts):
    files = clip_files(folder.parent)
    samples = [VideoSample(key=key, media=files[key], text_L_E=text) for key, text in texts.items()]
    absent = dict.fromkeys(("num_frames", "height", "width", "fps", "latent_shape", "latent_dtype", "video_tokenizer"))
    return write_dataset(folder, {"train-000000.tar": samples}, kind="video", **absent)


def test_text_of_each_file_comes_with_its_clip(tmp_path):
    texts = {key: torch.randn(length, 8) for key, length in (("a", 3), ("b", 6))}
    reader = train_loader(
        write_videos(tmp_path / "set", texts),
        partial(CaptionedVideoTaskEncoder, window=WINDOW, text_length=4),
        micro_batch_size=2,
    )
    batch = next(iter(reader))
    for row, key in enumerate(batch.keys):
        length = min(4, len(texts[key]))
        assert torch.equal(batch.crossattn_emb_B_L_E[row, :length], texts[key][:length])
        assert batch.text_mask_B_L[row].tolist() == [True] * length + [False] * (4 - length)
    assert batch.video_B_3_T_H_W.shape == (2, 3, 5, 32, 48)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ({"a": None}, "shard train-000000.tar, sample 'a' has no text embedding; prepare"),
        ({"a": torch.randn(3, 9)}, "sample 'a': text width 9, but the manifest says 8"),
    ],
)
def test_video_without_text_or_with_text_of_another_width_is_refused_with_shard_and_key(tmp_path, texts, message):
    reader = train_loader(write_videos(tmp_path / "set", texts), partial(CaptionedVideoTaskEncoder, window=WINDOW))
    with pytest.raises(UserError, match=message):
        next(iter(reader))
