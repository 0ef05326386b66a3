from __future__ import annotations

import base64
import re
from pathlib import Path

import pytest
from PIL import Image

from cosmos_nemo.errors import UserError
from cosmos_nemo.report.page import Media, parse_media, read_timings, write_page
from cosmos_nemo.runs.record import RunData, RunRecord
from tests.report.test_loss_curve import write_run


def test_a_page_embeds_everything_it_shows(tmp_path: Path) -> None:
    run = write_run(tmp_path / "my_run", [4.0] * 5 + [2.0] * 5)
    described = {"family": "predict2", "task": "video2world", "model": {"num_layers": 2}, "recipe": "cosmos_v2w_tiny"}
    RunRecord(**described, data=RunData(path="a<b")).write(run)
    Image.new("RGB", (8, 8), "red").save(tmp_path / "strip.png")
    (tmp_path / "video.mp4").write_bytes(b"moving")
    page = tmp_path / "out" / "report.html"
    write_page(
        page,
        title="Title & more",
        run_dirs=[run],
        media=[Media(caption="a strip", path=tmp_path / "strip.png"), parse_media(f"a video={tmp_path}/video.mp4")],
        timings=[("train", 3.0), ("generate", 4.0)],
        next_commands=["nemo run recipe x data.path=<folder>"],
    )
    text = page.read_text()
    assert not re.findall(r'(?:src|href)="(?!data:)', text)  # opens from anywhere
    assert f"data:video/mp4;base64,{base64.b64encode(b'moving').decode()}" in text
    assert text.count("data:image/png") == 2  # the curve and the strip
    for shown in (
        "Title &amp; more",
        "my_run",
        "4.000 → 2.000",
        "a&lt;b",
        "a strip",
        "a video",
        "7 s",
        "&lt;folder&gt;",
    ):
        assert shown in text
    assert [path.name for path in page.parent.iterdir()] == ["report.html"]


def test_missing_files_and_other_types_are_named_and_nothing_is_written(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", [1.0])
    for name, message in (("gone.png", "gone.png is missing"), ("a.txt", "neither a picture nor a video")):
        with pytest.raises(UserError, match=message):
            write_page(tmp_path / "r.html", title="t", run_dirs=[run], media=[parse_media(str(tmp_path / name))])
    assert not (tmp_path / "r.html").exists()


def test_timings_are_lines_of_label_and_seconds(tmp_path: Path) -> None:
    (tmp_path / "t").write_text("train the first half\t87\nplot\t0.5\n")
    assert read_timings(tmp_path / "t") == [("train the first half", 87.0), ("plot", 0.5)]
    (tmp_path / "t").write_text("train\t1\nno seconds\n")
    with pytest.raises(UserError, match="line 2"):
        read_timings(tmp_path / "t")
    with pytest.raises(UserError, match="no timings at"):
        read_timings(tmp_path / "absent")
