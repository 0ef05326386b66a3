"""A folder of videos becomes a dataset that Energon reads."""

import tarfile
from itertools import islice

import torch

from cosmos_nemo.data.manifest import check_shards, read_manifest
from cosmos_nemo.media.frames import read_frames
from cosmos_nemo.media.probe import probe_video
from cosmos_nemo.tokenizers.text import load_t5
from cosmos_nemo.tokenizers.wan import load_wan
from data_prep.making.shards import make_shards
from tests.data.shards import train_loader, val_loader
from tests.data_prep.conftest import contents, samples_in


def test_samples_hold_what_the_encoders_say(options, encoders, clips):
    chosen = options()
    report = make_shards(chosen)
    samples = samples_in(chosen.output)
    assert report.count("used") == len(samples) == 6
    vae, text_encoder = load_wan(encoders / "vae"), load_t5(encoders / "text_encoder")
    for sample in samples.values():
        path = clips / sample.info.source
        pixels = read_frames(path, probe_video(path), start=sample.info.start_frame, num_frames=5, size=(32, 48))
        latent = vae.encode(pixels[None].float() / 127.5 - 1)[0]
        assert torch.equal(sample.latent_C_T_H_W, latent.bfloat16())
        assert torch.equal(sample.text_L_E, text_encoder.encode([sample.info.caption])[0])
        assert sample.info.caption == f"a ball called {path.stem}"
        assert (sample.info.kind, sample.info.fps, sample.info.num_frames) == ("video", 12.0, 5)


def test_the_manifest_describes_the_dataset(options, encoders):
    chosen = options()
    make_shards(chosen)
    manifest = read_manifest(chosen.output)
    check_shards(chosen.output, manifest)
    assert manifest.task == "video2world"
    assert manifest.latent_shape == (16, 2, 4, 6)
    assert (manifest.text_width, manifest.fps, manifest.height, manifest.width) == (64, 12.0, 32, 48)
    assert (manifest.num_samples("train"), manifest.num_samples("val")) == (5, 1)
    assert manifest.video_tokenizer.path == str(encoders / "vae")
    assert [shard.name for shard in manifest.shards] == [
        "train-000000.tar",
        "train-000001.tar",
        "train-000002.tar",
        "val-000000.tar",
    ]


def test_energon_reads_the_dataset(options):
    chosen = options()
    make_shards(chosen)
    batches = list(islice(iter(train_loader(chosen.output, micro_batch_size=5, text_length=16)), 1))
    held_out = [key for batch in val_loader(chosen.output, text_length=16) for key in batch.keys]
    assert len(set(batches[0].keys)) == 5
    assert sorted([*batches[0].keys, *held_out]) == [f"clip{i}_000" for i in range(6)]


def test_several_windows_of_a_video_differ_and_stay_on_one_side_of_the_split(options):
    chosen = options(chunks_per_video=3)
    make_shards(chosen)
    samples = samples_in(chosen.output)
    assert len(samples) == 5 * 3 + 1  # the shortest video has one window
    starts = sorted(s.info.start_frame for key, s in samples.items() if key.startswith("clip2"))
    assert len(set(starts)) == 3
    splits = {}
    for shard in chosen.output.glob("*.tar"):
        with tarfile.open(shard) as tar:
            for member in tar:
                splits.setdefault(member.name.split("_")[0], set()).add(shard.name.split("-")[0])
    assert all(len(sides) == 1 for sides in splits.values())


def test_without_a_val_fraction_there_is_no_val_split(options):
    chosen = options(val_fraction=0.0)
    report = make_shards(chosen)
    assert report.samples == {"train": 6, "val": 0}
    assert next(iter(train_loader(chosen.output, text_length=8))).batch_size == 1
    assert val_loader(chosen.output, text_length=8) is None


def test_two_runs_give_the_same_bytes(options, tmp_path):
    first, second = options(output=tmp_path / "a"), options(output=tmp_path / "b")
    make_shards(first)
    make_shards(second)
    assert contents(first.output) == contents(second.output)


def test_images_are_made_from_videos(options):
    chosen = options(num_frames=1)
    make_shards(chosen)
    samples = samples_in(chosen.output)
    assert {s.info.kind for s in samples.values()} == {"image"}
    assert {tuple(s.latent_C_T_H_W.shape) for s in samples.values()} == {(16, 1, 4, 6)}
    assert {s.info.fps for s in samples.values()} == {0.0}


def test_a_folder_of_images_is_used_where_there_is_one(options, tmp_path):
    from PIL import Image

    folder = tmp_path / "pictures"
    for name in ("images", "metas"):
        (folder / name).mkdir(parents=True)
    for stem, color in (("red", (255, 0, 0)), ("blue", (0, 0, 255))):
        Image.new("RGB", (70, 50), color).save(folder / "images" / f"{stem}.jpg")
        (folder / "metas" / f"{stem}.txt").write_text(f"all {stem}")
    (folder / "images" / "broken.png").write_bytes(b"no picture")
    (folder / "metas" / "broken.txt").write_text("nothing")
    chosen = options(input=folder, num_frames=1, val_fraction=0.0)
    report = make_shards(chosen)
    samples = samples_in(chosen.output)
    assert {s.info.source for s in samples.values()} == {"images/red.jpg", "images/blue.jpg"}
    assert {(s.info.source_height, s.info.source_width) for s in samples.values()} == {(50, 70)}
    assert report.count("skipped") == 1


def test_real_videos_are_prepared(options, shared_dir):
    """The robot clip of 16 frames is too short; clips without a caption are told of; the rest is used."""
    chosen = options(input=shared_dir / "videos", num_frames=17, val_fraction=0.2)
    report = make_shards(chosen)
    verdicts = {v.stem: v for v in report.verdicts}
    assert verdicts["bridge_train_5873"].reason == "bridge_train_5873.mp4: too short: 16 frames, 17 are needed"
    assert verdicts["generated_text2world"].reason.endswith("has no caption metas/generated_text2world.txt")
    used = {stem for stem, verdict in verdicts.items() if verdict.status == "used"}
    assert used == {"bridge_train_1432", "bridge_val_1996", "driving_1", "driving_4", "driving_7"}
    assert read_manifest(chosen.output).latent_shape == (16, 5, 4, 6)
    assert read_manifest(chosen.output).fps is None  # 3 and 30 frames per second
