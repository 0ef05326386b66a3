"""The tiny text encoder made from a dataset's captions."""

import pytest

from cosmos_nemo.errors import UserError
from cosmos_nemo.tokenizers.text import load_t5
from data_prep.demo.text_encoder import write_text_encoder
from tests.data_prep.conftest import contents


def test_it_loads_through_the_usual_path_and_is_the_same_every_time(clips, tmp_path):
    assert write_text_encoder(tmp_path / "a", captions=clips) == 6
    assert write_text_encoder(tmp_path / "b", captions=clips) == 6
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    (embedding,) = load_t5(tmp_path / "a").encode(["a ball called clip0"])
    assert embedding.shape == (5, 64)  # four words, each one token, and the end of the text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b"]


def test_a_folder_without_captions_is_refused_and_what_was_there_stays(clips, tmp_path):
    write_text_encoder(tmp_path / "a", captions=clips)
    before = contents(tmp_path / "a")
    with pytest.raises(UserError, match="holds no captions"):
        write_text_encoder(tmp_path / "a", captions=tmp_path)
    assert contents(tmp_path / "a") == before
