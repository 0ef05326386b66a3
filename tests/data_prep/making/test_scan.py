"""Bad input is told of in one line, and what was there stays as it was."""

import pytest

from cosmos_nemo.data.manifest import read_manifest
from cosmos_nemo.errors import UserError
from data_prep.making.shards import make_shards
from tests.data_prep.conftest import add_clip


@pytest.fixture
def folder(tmp_path):
    """Two good clips, to which a test adds bad ones."""
    place = tmp_path / "input"
    place.mkdir()
    for index in range(2):
        add_clip(place, f"good{index}", seed=index)
    return place


def too_short(folder):
    add_clip(folder, "bad", num_frames=4)
    return "skipped", "videos/bad.mp4: too short: 4 frames, 5 are needed"


def empty_caption(folder):
    add_clip(folder, "bad", caption=" ")
    return "skipped", "caption metas/bad.txt is empty"


def binary_caption(folder):
    add_clip(folder, "bad")
    (folder / "metas" / "bad.txt").write_bytes(b"\xff\xfe\x00\x81")
    return "skipped", "caption metas/bad.txt is not UTF-8"


def no_caption(folder):
    add_clip(folder, "bad", caption="")
    return "unmatched", "videos/bad.mp4 has no caption metas/bad.txt"


def no_video(folder):
    (folder / "metas" / "bad.txt").write_text("a caption on its own")
    return "unmatched", "metas/bad.txt has no video"


def no_mp4(folder):
    add_clip(folder, "bad")
    (folder / "videos" / "bad.mp4").write_bytes(b"this is no video")
    return "skipped", "videos/bad.mp4: unreadable"


def damaged_pictures(folder):
    """Packets that look right from outside: only decoding tells."""
    add_clip(folder, "bad", seed=7)
    file = folder / "videos" / "bad.mp4"
    data = bytearray(file.read_bytes())
    start = data.index(b"mdat") + 4
    data[start : start + 4000] = b"\0" * len(data[start : start + 4000])
    file.write_bytes(data)
    return "skipped", "videos/bad.mp4: unreadable"


FAULTS = [too_short, empty_caption, binary_caption, no_caption, no_video, no_mp4, damaged_pictures]


@pytest.mark.parametrize("fault", FAULTS)
def test_one_bad_input_is_reported_and_the_rest_is_used(folder, options, fault):
    status, reason = fault(folder)
    report = make_shards(options(input=folder))
    verdict = next(v for v in report.verdicts if v.stem == "bad")
    assert (verdict.status, reason in verdict.reason) == (status, True), verdict
    assert report.count("used") == 2
    assert len(report.verdicts) == report.count("used") + report.count("skipped") + report.count("unmatched") == 3
    assert read_manifest(options().output).num_samples("train") == 1


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault is not damaged_pictures])
def test_too_much_bad_input_is_an_error_and_leaves_no_output(folder, options, fault):
    _, reason = fault(folder)
    with pytest.raises(UserError, match=r"1 of 3 inputs .* cannot be used") as error:
        make_shards(options(input=folder, max_bad=0.1))
    assert reason in str(error.value)
    assert "\n" not in str(error.value)
    assert not options().output.exists()


@pytest.mark.parametrize("fault", FAULTS)
def test_a_dataset_that_is_there_survives_bad_input(folder, options, fault):
    make_shards(options(input=folder))
    before = {f: f.read_bytes() for f in options().output.rglob("*") if f.is_file()}
    fault(folder)
    with pytest.raises(UserError, match="input files differ in"):
        make_shards(options(input=folder))
    with pytest.raises(UserError, match="cannot be used"):
        make_shards(options(input=folder, max_bad=0.1, overwrite=True))
    assert {f: f.read_bytes() for f in options().output.rglob("*") if f.is_file()} == before


def test_no_usable_input_at_all_is_an_error_whatever_is_allowed(folder, options):
    for index in range(2):
        (folder / "metas" / f"good{index}.txt").write_text("")
    with pytest.raises(UserError, match=r"none of 2 inputs .* good0: caption metas/good0.txt is empty"):
        make_shards(options(input=folder, max_bad=1.0))
    assert not options().output.exists()


def test_a_video_of_exactly_the_needed_length_works(tmp_path, options):
    folder = tmp_path / "exact"
    folder.mkdir()
    for index, length in enumerate((5, 5, 6)):
        add_clip(folder, f"clip{index}", num_frames=length)
    assert make_shards(options(input=folder)).count("used") == 3


def test_a_half_written_caption_is_not_an_input(folder, options):
    (folder / "metas" / ".tmp-good0.txt.part").mkdir()
    assert [verdict.stem for verdict in make_shards(options(input=folder)).verdicts] == ["good0", "good1"]
