"""Windows, splits and keys are decided by the inputs and a seed alone."""

from pathlib import Path

import pytest

from data_prep.making.plan import choose_chunks, plan_shards, sample_key
from data_prep.making.scan import Clip


def make_clip(stem, num_frames):
    path = Path(f"videos/{stem}.mp4")
    return Clip(
        stem=stem,
        path=path,
        source=str(path),
        caption="x",
        is_image=False,
        num_frames=num_frames,
        fps=1.0,
        height=8,
        width=8,
        source_num_frames=num_frames,
    )


CLIPS = tuple(make_clip(f"clip{i:02d}", 10 + i) for i in range(20))
PLAN = {"num_frames": 5, "chunks_per_video": 1, "val_fraction": 0.1, "samples_per_shard": 4, "seed": 0}


def windows(shards):
    return {chunk.key: chunk.start for shard in shards for chunk in shard.chunks}


@pytest.mark.parametrize("num_frames", [5, 6, 7])
def test_every_legal_window_is_drawn_and_no_other(num_frames):
    starts = {
        choose_chunks(make_clip("a", num_frames), num_frames=5, count=1, seed=seed)[0].start for seed in range(60)
    }
    assert starts == set(range(num_frames - 5 + 1))


def test_the_windows_of_one_video_are_different_and_no_more_than_there_are():
    chunks = choose_chunks(make_clip("a", 7), num_frames=5, count=10, seed=0)
    assert [chunk.start for chunk in chunks] == [0, 1, 2]
    assert [chunk.key for chunk in chunks] == ["a_000", "a_001", "a_002"]


def test_the_plan_is_the_same_every_time_and_another_with_another_seed():
    assert plan_shards(CLIPS, **PLAN) == plan_shards(CLIPS, **PLAN)
    assert windows(plan_shards(CLIPS, **PLAN)) != windows(plan_shards(CLIPS, **(PLAN | {"seed": 1})))


def test_another_video_does_not_move_the_windows_of_the_rest():
    fewer = windows(plan_shards(CLIPS[:-3], **PLAN))
    assert fewer.items() <= windows(plan_shards(CLIPS, **PLAN)).items()


def test_shards_are_filled_in_order_and_keep_their_size():
    shards = plan_shards(CLIPS, **PLAN)
    assert [shard.name for shard in shards] == [f"train-{i:06d}.tar" for i in range(5)] + ["val-000000.tar"]
    assert [len(shard.chunks) for shard in shards] == [4, 4, 4, 4, 2, 2]


def test_keys_hold_no_dots_and_stay_apart():
    stems = ["plain_1", "a.b", "a_b", "a b", "\u00fcber", "x" * 200, "x" * 201]
    keys = [sample_key(stem) for stem in stems]
    assert keys[0] == "plain_1"
    assert len(set(keys)) == len(stems)
    assert all("." not in key and key.isascii() and len(key) < 75 for key in keys)
