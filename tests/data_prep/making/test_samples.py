"""Each family gets the samples it trains on: token ids, raw video, pictures; latents are in test_shards."""

import pickle
import tarfile
from functools import partial

import numpy as np
import pytest
import torch

from cosmos_nemo.data.loader import train_loader
from cosmos_nemo.data.manifest import read_manifest
from cosmos_nemo.data.schema import TokenSample, VideoSample, from_parts
from cosmos_nemo.data.tokens import TokenTaskEncoder
from cosmos_nemo.errors import UserError
from cosmos_nemo.media.frames import read_frames, read_indices, resampled_indices
from cosmos_nemo.media.probe import probe_video
from cosmos_nemo.tokenizers.load import load_video_tokenizer
from cosmos_nemo.tokenizers.text import load_t5
from data_prep.making.options import options_for
from data_prep.making.shards import make_shards
from tests.data_prep.conftest import add_clip, samples_in


@pytest.fixture
def bare(tmp_path):
    """A folder of four mp4 files and nothing else; one has an odd size."""
    folder = tmp_path / "bare"
    for index in range(4):
        add_clip(folder, f"clip{index}", num_frames=18 + index, caption="", size=(34, 50) if index == 3 else (32, 48))
    for file in (folder / "videos").iterdir():
        file.rename(folder / file.name)
    (folder / "videos").rmdir()
    (folder / "metas").rmdir()
    return folder


def prepare(family, recipe=None, **given):
    options = options_for(family, recipe, **given)
    return make_shards(options), read_manifest(options.output)


def test_token_ids_are_those_of_the_discrete_tokenizer(bare, cosmos, tmp_path):
    place = {"input": bare, "output": tmp_path / "out"}
    size = {"num_frames": 17, "height": 32, "width": 48}
    report, manifest = prepare("ar", video_tokenizer=cosmos / "dv", chunks_per_video=2, **place, **size)
    assert report.count("used") == 4
    assert (manifest.task, manifest.kind, manifest.token_shape) == ("autoregressive", "tokens", (3, 2, 3))
    assert (manifest.vocab_size, manifest.text_width, manifest.latent_shape) == (64000, None, None)
    tokenizer = load_video_tokenizer(cosmos / "dv")
    samples = samples_in(tmp_path / "out", TokenSample)
    assert len(samples) == 8
    for sample in samples.values():
        path = bare / sample.info.source
        start = sample.info.start_frame
        pixels = read_frames(path, probe_video(path), start=start, num_frames=17, size=(32, 48), fit="cover")
        assert torch.equal(sample.tokens_T_H_W, tokenizer.encode(pixels[None].float() / 127.5 - 1)[0])
        assert (sample.text_L_E, sample.info.caption) == (None, "")
    batch = next(iter(train_loader(tmp_path / "out", TokenTaskEncoder, micro_batch_size=2)))
    assert batch.tokens_B_T_H_W.shape == (2, 3, 2, 3)


def test_autoregressive_models_with_text_get_captions_embedded(clips, encoders, cosmos, tmp_path):
    paths = {"video_tokenizer": cosmos / "dv", "text_encoder": encoders / "text_encoder"}
    size = {"num_frames": 5, "height": 32, "width": 48}
    with pytest.raises(UserError, match="num_frames=5 does not fit the video tokenizer: use 1 or 9"):
        prepare("ar", input=clips, output=tmp_path / "out", **paths, **size)
    assert not (tmp_path / "out").exists()
    size["num_frames"] = 1
    _, manifest = prepare("ar", "cosmos_ar_v2w_5b", input=clips, output=tmp_path / "out", **paths, **size)
    assert (manifest.text_width, manifest.text_length) == (64, 512)
    batch = next(iter(train_loader(tmp_path / "out", partial(TokenTaskEncoder, text_length=16))))
    assert batch.text_mask_B_L.sum() > 1


def test_latents_of_a_continuous_cosmos_tokenizer(clips, encoders, cosmos, tmp_path):
    paths = {"video_tokenizer": cosmos / "cv", "text_encoder": encoders / "text_encoder"}
    _, manifest = prepare(
        "v2w", input=clips, output=tmp_path / "out", **paths, num_frames=1, height=32, width=48, max_bad=0.1
    )
    assert (manifest.task, manifest.latent_shape) == ("text2image", (16, 1, 4, 6))


def test_a_tokenizer_trains_on_numbered_mp4_files_as_they_are(bare, tmp_path):
    place = {"input": bare, "output": tmp_path / "out"}
    report, manifest = prepare("tokenizer", num_frames=19, samples_per_shard=1, val_fraction=0.3, **place)
    assert report.count("used") == 3
    assert [v.reason for v in report.verdicts if v.reason] == ["clip0.mp4: too short: 18 frames, 19 are needed"]
    assert (manifest.task, manifest.kind, manifest.num_frames, manifest.video_tokenizer) == (
        *("tokenizer", "video"),
        *(None, None),
    )
    assert [(s.name, s.split) for s in manifest.shards] == [
        ("000000.tar", "train"),
        ("000001.tar", "train"),
        ("000002.tar", "val"),
    ]
    with tarfile.open(tmp_path / "out" / "000001.tar") as tar:
        assert tar.getnames() == ["2.json", "2.mp4"]
    for sample in samples_in(tmp_path / "out", VideoSample).values():
        assert sample.media == (bare / sample.info.source).read_bytes()
        assert sample.info.extra["bucket"] == {"aspect": "4:3", "size": "below 240p", "length": 17}


def test_remuxed_videos_have_the_same_frames_and_no_sound(bare, tmp_path):
    prepare("tokenizer", input=bare, output=tmp_path / "out", num_frames=1, mp4="remux")
    for sample in samples_in(tmp_path / "out", VideoSample).values():
        path = bare / sample.info.source
        whole = {"start": 0, "num_frames": sample.info.num_frames}
        expected = read_frames(path, probe_video(path), **whole)
        assert torch.equal(read_frames(sample.media, probe_video(sample.media), **whole), expected)


def test_encoded_windows_show_what_they_say(bare, tmp_path):
    size = {"height": 16, "width": 24}
    place = {"input": bare, "output": tmp_path / "out"}
    _, manifest = prepare("tokenizer", mp4="encode", cut=True, num_frames=9, chunks_per_video=2, **size, **place)
    assert (manifest.num_frames, manifest.height, manifest.width) == (9, 16, 24)
    samples = samples_in(tmp_path / "out", VideoSample)
    assert sorted(samples) == sorted(str(i) for i in range(1, 9))
    for sample in samples.values():
        path, probe = bare / sample.info.source, probe_video(sample.media)
        source = probe_video(path)
        frames = read_frames(path, source, start=0, num_frames=source.num_frames, size=(16, 24)).float()
        found = read_frames(sample.media, probe, start=0, num_frames=9).float()
        assert (probe.num_frames, probe.fps) == (9, 12.0)
        distance = [(found - frames[:, s : s + 9]).abs().mean() for s in range(source.num_frames - 8)]
        right = distance.pop(sample.info.start_frame)
        assert right < 20 and 2 * right < min(distance)  # lossy, with colours at half the size


def test_odd_sizes_lose_a_row_when_encoded(bare, tmp_path):
    prepare("tokenizer", input=bare, output=tmp_path / "out", num_frames=1, mp4="encode")
    sizes = {(s.info.source, s.info.height, s.info.width) for s in samples_in(tmp_path / "out", VideoSample).values()}
    assert ("clip3.mp4", 34, 50) in sizes


def test_raw_video_with_captions_and_embeddings_can_be_encoded_in_training(clips, encoders, tmp_path):
    paths = {"input": clips, "text_encoder": encoders / "text_encoder"}
    _, manifest = prepare("v2w", raw=True, output=tmp_path / "with", num_frames=5, **paths)
    assert (manifest.task, manifest.kind, manifest.text_width) == ("video2world", "video", 64)
    for key, sample in samples_in(tmp_path / "with", VideoSample).items():
        assert sample.caption == f"a ball called {key}"
        assert torch.equal(sample.text_L_E, load_t5(encoders / "text_encoder").encode([sample.caption])[0])
    prepare("v2w", raw=True, input=clips, output=tmp_path / "without", num_frames=5)
    assert {s.text_L_E for s in samples_in(tmp_path / "without", VideoSample).values()} == {None}


def test_raw_pictures_are_kept(tmp_path):
    from PIL import Image

    for name in ("images", "metas"):
        (tmp_path / "in" / name).mkdir(parents=True)
    Image.new("RGB", (70, 50), "red").save(tmp_path / "in" / "images" / "red.jpg")
    (tmp_path / "in" / "metas" / "red.txt").write_text("all red")
    prepare("t2i", raw=True, input=tmp_path / "in", output=tmp_path / "out")
    sample = samples_in(tmp_path / "out", VideoSample)["red"]
    assert (sample.media_part, sample.caption, sample.info.kind) == ("jpg", "all red", "image")
    assert sample.media == (tmp_path / "in" / "images" / "red.jpg").read_bytes()


def test_frames_are_picked_for_another_rate(clips, encoders, tmp_path):
    paths = {"video_tokenizer": encoders / "vae", "text_encoder": encoders / "text_encoder"}
    size = {"num_frames": 1, "height": 32, "width": 48}
    _, slow = prepare("t2i", input=clips, output=tmp_path / "t2i", fps=4.0, **paths, **size)
    size["num_frames"] = 5
    with pytest.raises(UserError, match=r"too short: 3 frames at 4 frames per second, 5 are needed"):
        prepare("v2w", input=clips, output=tmp_path / "v2w", fps=4.0, **paths, **size)
    report, fast = prepare("v2w", input=clips, output=tmp_path / "v2w", fps=24.0, **paths, **size)
    assert (slow.num_samples("train") + slow.num_samples("val"), fast.fps, report.count("used")) == (6, 24.0, 6)
    vae = load_video_tokenizer(encoders / "vae")
    (sample,) = (s for s in samples_in(tmp_path / "v2w").values() if s.info.source == "videos/clip1.mp4")
    path = clips / sample.info.source
    probe = probe_video(path)
    indices = resampled_indices(probe, 24.0)
    first = [i for i in range(len(indices) - 4) if indices[i] == sample.info.start_frame]
    latents = [
        vae.encode(read_indices(path, probe, indices[i : i + 5], size=(32, 48))[None].float() / 127.5 - 1)[0]
        for i in first
    ]
    assert any(torch.equal(sample.latent_C_T_H_W, latent.bfloat16()) for latent in latents)


def write_pickle(file, content):
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(pickle.dumps(content))


def test_embeddings_in_the_input_folder_are_used(clips, encoders, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    for index in range(3):
        add_clip(folder, f"clip{index}")
    arrays = {f"clip{i}": np.random.default_rng(i).normal(size=(3 + i, 8)).astype(np.float16) for i in range(2)}
    for stem, array in arrays.items():
        write_pickle(folder / "t5_xxl" / f"{stem}.pickle", [array])
    size = {"num_frames": 5, "height": 32, "width": 48}
    paths = {"input": folder, "output": tmp_path / "out", "video_tokenizer": encoders / "vae"}
    report, manifest = prepare("v2w", **paths, **size)
    assert [v.reason for v in report.verdicts] == ["", "", "videos/clip2.mp4 has no text embedding t5_xxl/clip2.pickle"]
    assert (manifest.text_width, manifest.text_encoder) == (8, None)
    assert "t5_xxl/clip0.pickle" in manifest.sources
    for sample in samples_in(tmp_path / "out").values():
        expected = torch.from_numpy(arrays[sample.info.source[7:12]].astype(np.float32)).bfloat16()
        assert torch.equal(sample.text_L_E, expected)


class Evil:
    def __reduce__(self):
        return (print, ("run",))


@pytest.mark.parametrize(
    ("content", "reason"),
    [(Evil(), "which is not part of an array"), ([np.zeros(3)], "is not one array"), ([1, 2], "is not one array")],
)
def test_a_bad_embedding_is_a_bad_input(encoders, tmp_path, capsys, content, reason):
    folder = tmp_path / "in"
    folder.mkdir()
    for stem in ("good", "bad"):
        add_clip(folder, stem)
    write_pickle(folder / "t5_xxl" / "good.pickle", [np.ones((2, 8), np.float16)])
    write_pickle(folder / "t5_xxl" / "bad.pickle", content)
    size = {"num_frames": 5, "height": 32, "width": 48}
    report, _ = prepare("v2w", input=folder, output=tmp_path / "out", video_tokenizer=encoders / "vae", **size)
    (verdict,) = (v for v in report.verdicts if v.stem == "bad")
    assert (verdict.status, reason in verdict.reason) == ("skipped", True), verdict
    assert capsys.readouterr().out == ""


def test_the_parts_of_a_bare_tar_are_samples(bare, tmp_path):
    """What the published guide asks for: tars with nothing but 1.mp4, 2.mp4."""
    content = (bare / "clip0.mp4").read_bytes()
    assert from_parts("1", {"mp4": content}, VideoSample).media == content
