"""The bytes do not depend on who made them, nor on how often the work was killed."""

import os
import signal
from dataclasses import replace

import pytest

from data_prep.making.options import options_for
from data_prep.making.shards import make_shards
from tests.data_prep.conftest import contents


def test_workers_give_the_bytes_of_one_process(options, tmp_path):
    one, two = options(output=tmp_path / "one"), options(output=tmp_path / "two", workers=2)
    report = make_shards(one)
    assert make_shards(two) == report
    assert contents(two.output) == contents(one.output)


def test_another_number_of_workers_may_finish_the_work(options, tmp_path):
    chosen = options(output=tmp_path / "shards")
    make_shards(chosen)
    before = contents(chosen.output)
    (chosen.output / "manifest.json").unlink()
    make_shards(replace(chosen, workers=3))
    assert contents(chosen.output) == before


def killed_at(options, event):
    """Run in a child process that dies at its n-th rename, sync or deletion; whether it did."""
    child = os.fork()
    if child == 0:
        count = 0

        def dying(original):
            def call(*args, **kwargs):
                nonlocal count
                count += 1
                if count == event:
                    os.kill(os.getpid(), signal.SIGKILL)
                return original(*args, **kwargs)

            return call

        os.fsync, os.replace, os.unlink = dying(os.fsync), dying(os.replace), dying(os.unlink)
        try:
            make_shards(options)
            os._exit(0)
        except BaseException:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


@pytest.mark.parametrize("mp4", ["copy", "encode"])
def test_killed_at_any_moment_the_work_completes_to_the_same_bytes(clips, tmp_path, mp4):
    choices = {"input": clips, "num_frames": 5, "samples_per_shard": 2, "mp4": mp4}
    whole = options_for("tokenizer", None, output=tmp_path / "whole", **choices)
    make_shards(whole)
    expected = contents(whole.output)
    event, step = 1, 2 if mp4 == "copy" else 7
    # One event after the other, in one folder per event: what it leaves is then completed.
    while True:
        chosen = options_for("tokenizer", None, output=tmp_path / f"killed{event}", **choices)
        if not killed_at(chosen, event):
            break
        assert not (chosen.output / "manifest.json").exists() or event > 20
        make_shards(chosen)
        assert contents(chosen.output) == expected, f"killed at event {event}"
        event += step
    assert event > 20


def test_killed_again_and_again_it_still_completes(clips, tmp_path):
    choices = {"input": clips, "num_frames": 5, "samples_per_shard": 1}
    whole = options_for("tokenizer", None, output=tmp_path / "whole", **choices)
    make_shards(whole)
    chosen = options_for("tokenizer", None, output=tmp_path / "killed", **choices)
    for _ in range(5):
        assert killed_at(chosen, 10)
    make_shards(chosen)
    assert contents(chosen.output) == contents(whole.output)
