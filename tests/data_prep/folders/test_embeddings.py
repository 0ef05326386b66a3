"""Pickles of embeddings are read without running what is in them."""

import os
import pickle

import numpy as np
import pytest
import torch

from cosmos_nemo.media.pictures import VideoError
from data_prep.folders.embeddings import read_embedding
from data_prep.folders.t5 import to_pickle

CAPTIONS = {"a": "a ball", "b": "a block and a ball", "c.d": "a ball", "e": "a block"}


def test_what_is_written_can_be_read_without_running_it(tmp_path):
    embedding = torch.randn(7, 16, generator=torch.Generator().manual_seed(0))
    file = tmp_path / "a.pickle"
    file.write_bytes(to_pickle(embedding))
    assert torch.equal(read_embedding(file), embedding.half().to(torch.bfloat16))
    for protocol in range(6):
        file.write_bytes(pickle.dumps([embedding.half().numpy()], protocol=protocol))
        assert torch.equal(read_embedding(file), embedding.half().to(torch.bfloat16)), protocol
    with np.errstate(over="ignore"):
        file.write_bytes(pickle.dumps([np.array([[1e5, -1e5, 1.0]]).astype(np.float16)]))
    assert read_embedding(file).tolist() == [[65536.0, -65536.0, 1.0]], "upstream's infinities"
    file.write_bytes(pickle.dumps([np.full((2, 2), np.nan)]))
    with pytest.raises(VideoError, match="not numbers"):
        read_embedding(file)
    file.write_bytes(pickle.dumps([os.system]))
    with pytest.raises(VideoError, match="which is not part of an array"):
        read_embedding(file)
