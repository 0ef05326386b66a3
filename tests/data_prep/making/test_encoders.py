"""Encoders are checked before any work."""

import pytest

from cosmos_nemo.errors import UserError
from data_prep.making.options import options_for
from data_prep.making.shards import make_shards


@pytest.mark.parametrize(("family", "wrong", "message"), [("ar", "cv", "makes latents"), ("v2w", "dv", "token ids")])
def test_the_wrong_kind_of_tokenizer_is_refused(clips, encoders, cosmos, tmp_path, family, wrong, message):
    paths = {"video_tokenizer": cosmos / wrong, "text_encoder": encoders / "text_encoder"}
    with pytest.raises(UserError, match=f"{wrong} makes .*{message if family == 'v2w' else 'needs token ids'}"):
        size = {"num_frames": 1, "height": 32, "width": 48}
        make_shards(options_for(family, None, input=clips, output=tmp_path / "out", **paths, **size))
    assert not (tmp_path / "out").exists()


def test_missing_encoders_are_named_before_any_work(options, tmp_path):
    with pytest.raises(UserError, match=r"no video tokenizer at .*nothing"):
        make_shards(options(video_tokenizer=tmp_path / "nothing"))
    with pytest.raises(UserError, match=r"no T5 text encoder at .*nothing"):
        make_shards(options(text_encoder=tmp_path / "nothing"))
    assert not options().output.exists()
