"""Text embeddings as upstream's loaders read them."""

import io
import os
import pickle

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from cosmos_nemo.errors import UserError
from cosmos_nemo.tokenizers.text import load_t5
from data_prep.__main__ import app
from data_prep.folders.t5 import plan_embeddings, to_pickle, write_embeddings

CAPTIONS = {"a": "a ball", "b": "a block and a ball", "c.d": "a ball", "e": "a block"}


@pytest.fixture
def folder(tmp_path):
    for name in ("videos", "metas"):
        (tmp_path / "in" / name).mkdir(parents=True)
    for stem, caption in CAPTIONS.items():
        (tmp_path / "in" / "videos" / f"{stem}.mp4").write_bytes(b"not looked at")
        (tmp_path / "in" / "metas" / f"{stem}.txt").write_text(caption + "\n")
    return tmp_path / "in"


def run(folder, encoders, *arguments):
    words = ["t5", str(folder), "--text-encoder", str(encoders / "text_encoder"), *arguments]
    return CliRunner().invoke(app, words, catch_exceptions=False).output


def upstream_reads(file, width):
    """What Cosmos-Predict2's dataset does with a pickle."""
    with open(file, "rb") as stream:
        embedding = pickle.load(stream)[0]
    n_tokens = embedding.shape[0]
    if n_tokens < 512:
        embedding = np.concatenate([embedding, np.zeros((512 - n_tokens, width), dtype=np.float32)], axis=0)
    mask = torch.zeros(512, dtype=torch.int64)
    mask[:n_tokens] = 1
    return torch.from_numpy(embedding), mask


def test_upstreams_loader_gets_the_encoders_hidden_states(folder, encoders):
    output = run(folder, encoders, "--device", "cpu", "--batch-size", "2")
    assert "4 files written" in output and "from 3 different captions, 0 kept" in output
    encoder = load_t5(encoders / "text_encoder")
    assert sorted(os.listdir(folder / "t5_xxl")) == ["a.pickle", "b.pickle", "c.d.pickle", "e.pickle"]
    for stem, caption in CAPTIONS.items():
        embedding, mask = upstream_reads(folder / "t5_xxl" / f"{stem}.pickle", encoder.width)
        (expected,) = encoder.encode([caption], dtype=torch.float32)
        assert embedding.shape == (512, encoder.width) and mask.sum() == len(expected)
        torch.testing.assert_close(embedding[: len(expected)], expected.half().float(), rtol=2e-3, atol=1e-3)
        assert not embedding[len(expected) :].any()


def test_a_pickle_is_one_list_with_one_half_precision_array():
    content = pickle.loads(to_pickle(torch.tensor([[1.0, -1e6], [2.5, 70000.0]])))
    assert type(content) is list and len(content) == 1 and content[0].dtype == np.float16
    assert content[0].tolist() == [[1.0, -65504.0], [2.5, 65504.0]], "no infinities"
    # Nothing but numpy's own array constructor is in it.
    used = set()

    class Recorder(pickle.Unpickler):
        def find_class(self, module, name):
            used.add((module, name))
            return super().find_class(module, name)

    Recorder(io.BytesIO(to_pickle(torch.ones(2, 2)))).load()
    assert used == {("numpy.core.multiarray", "_reconstruct"), ("numpy", "ndarray"), ("numpy", "dtype")}


def test_a_killed_run_is_completed_and_equal_captions_are_embedded_once(folder):
    seen = []

    def encode(captions):
        seen.extend(captions)
        if len(seen) > 2:
            raise KeyboardInterrupt
        return [torch.full((2, 4), float(len(caption))) for caption in captions]

    with pytest.raises(KeyboardInterrupt):
        write_embeddings(plan_embeddings(folder), encode, batch_size=1)
    assert sorted(os.listdir(folder / "t5_xxl")) == ["a.pickle", "c.d.pickle", "e.pickle"]
    plan = plan_embeddings(folder)
    assert plan.kept == 3 and list(plan.todo) == ["a block and a ball"]
    seen.clear()
    write_embeddings(plan, encode, batch_size=1)
    assert seen == ["a block and a ball"] and plan_embeddings(folder).todo == {}


def test_an_edited_caption_is_embedded_again(folder, encoders):
    run(folder, encoders)
    text = folder / "metas" / "b.txt"
    text.write_text("a cube\n")
    later = (folder / "t5_xxl" / "b.pickle").stat().st_mtime_ns + 1
    os.utime(text, ns=(later, later))
    assert list(plan_embeddings(folder).todo) == ["a cube"]
    assert plan_embeddings(folder, overwrite=True).num_files == 4


def test_what_cannot_be_embedded_is_told(folder, encoders):
    (folder / "metas" / "a.txt").write_text(" \n")
    (folder / "metas" / "b.txt").write_bytes(b"\xff\xfe")
    (folder / "metas" / "e.txt").rename(folder / "metas" / "f.txt")
    output = run(folder, encoders)
    assert "2 captions cannot be used: a.txt is empty, b.txt is not UTF-8" in output
    assert "1 videos have no caption: e" in output and "1 captions have no video: f" in output
    assert "2 files written" in output


def test_images_are_paired_with_their_captions(folder, encoders):
    (folder / "images").mkdir()
    (folder / "images" / "a.jpg").write_bytes(b"")
    assert "3 captions have no image" in run(folder, encoders, "--images")


def test_no_captions_and_no_encoder_are_explained(folder, tmp_path):
    with pytest.raises(UserError, match="no T5 text encoder at"):
        run(folder, tmp_path)
    for file in (folder / "metas").iterdir():
        file.unlink()
    with pytest.raises(UserError, match=r"no captions in .*; write some"):
        plan_embeddings(folder)


def test_half_written_files_are_neither_read_nor_kept(folder, encoders):
    for name in ("metas/.tmp-a.txt.part", "t5_xxl/.tmp-a.pickle.part"):
        (folder / name).mkdir(parents=True)
    assert plan_embeddings(folder).num_files == 4
    run(folder, encoders, "--device", "cpu")
    assert sorted(os.listdir(folder / "t5_xxl")) == ["a.pickle", "b.pickle", "c.d.pickle", "e.pickle"]
