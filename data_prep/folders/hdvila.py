"""Datasets like HD-VILA: clips with captions are cut out of longer videos, following a file of clip descriptions.

Names are upstream's: `videos_orig/VIDEO_ID.mp4` -> `videos/CLIP_ID` (which ends in .mp4), `metas/CLIP.txt` with the
caption, `metas/CLIP.json` with the whole description. Clips find their videos by `video_id`.
"""

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

from cosmos_nemo.errors import UserError
from cosmos_nemo.files import remove_debris, staged, write_text
from cosmos_nemo.media.frames import iter_frames, nearest_index
from cosmos_nemo.media.pictures import VideoError, reason_of
from cosmos_nemo.media.probe import VideoProbe, open_video, probe_video
from cosmos_nemo.media.writing import FOR_VIEWING, encode_to, even_size

JSONL = "hdvila-100M.jsonl"
ORIGINALS = "videos_orig"
REQUIRED = ("url", "video_id", "clip_id", "caption", "span_start", "span_end")
PLAIN_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
TIME = re.compile(r"(?:(\d+):)?(\d{1,2}):(\d{1,2}(?:\.\d+)?)")
OVERHANG = Fraction(1, 2)  # seconds that a span may reach beyond its video: published lengths are rounded


@dataclass(frozen=True, kw_only=True)
class ClipLine:
    """One line of the description file."""

    url: str
    video_id: str
    clip_id: str
    """File name of the clip, with .mp4."""
    caption: str
    start: Fraction
    """Seconds from the beginning of the video."""
    end: Fraction
    content: Mapping[str, Any]
    """The whole line."""

    @property
    def stem(self) -> str:
        """Name of the clip's files."""
        return self.clip_id.removesuffix(".mp4")


@dataclass(kw_only=True)
class HdvilaReport:
    """Result for each line that was looked at."""

    done: list[str] = field(default_factory=list)
    """New files."""
    kept: list[str] = field(default_factory=list)
    """Files that existed already."""
    bad: dict[str, str] = field(default_factory=dict)
    """Clips, videos or lines that cannot be used, and why."""


def parse_time(text: str) -> Fraction:
    """Parse `[HH:]MM:SS[.fraction]` to exact seconds, with any number of digits after the point.

    Raises:
        ValueError: the text has another form.
    """
    match = TIME.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a time like 00:01:02.345")
    hours, minutes, seconds = match.groups()
    return int(hours or 0) * 3600 + int(minutes) * 60 + Fraction(seconds)


def read_clips(file: Path, *, num_videos: int, report: HdvilaReport) -> list[ClipLine]:
    """Read the first clip of each of the first videos, as upstream does; the file is read no further than needed.

    Args:
        file: jSON lines.
        num_videos: number of clips, one of each video.
        report: gets the lines that cannot be used.

    Raises:
        UserError: there is no such file, or no line of it can be used.
    """
    if num_videos < 1:
        raise UserError(f"--n-videos {num_videos} must be at least 1")
    if not file.is_file():
        raise UserError(
            f"{file} does not exist; `python -m data_prep download hdvila` fetches it, or give --jsonl FILE"
        )
    clips: dict[str, ClipLine] = {}
    names: set[str] = set()
    for number, line in _lines(file):
        try:
            clip = _parse(line)
            if clip.url in clips:
                continue
            if clip.stem in names:
                raise ValueError(f"clip_id {clip.clip_id} appeared before with another url")
        except ValueError as error:
            report.bad[f"line {number}"] = str(error)
            continue
        clips[clip.url] = clip
        names.add(clip.stem)
        if len(clips) == num_videos:
            break
    if not clips:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in list(report.bad.items())[:3])
        raise UserError(f"no line of {file} can be used: {reasons or 'it is empty'}")
    return list(clips.values())


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    with open(file, encoding="utf-8", errors="replace") as stream:
        for number, line in enumerate(stream, 1):
            if line.strip():
                yield number, line


def _parse(line: str) -> ClipLine:
    try:
        content = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError("is not a JSON object")
    missing = [name for name in REQUIRED if not isinstance(content.get(name), str) or not content[name].strip()]
    if missing:
        raise ValueError(f"has no {', '.join(missing)}")
    for name in ("video_id", "clip_id"):
        if not PLAIN_NAME.fullmatch(content[name]):
            raise ValueError(f"{name} {content[name]!r} is not a file name")
    start, end = parse_time(content["span_start"]), parse_time(content["span_end"])
    if end <= start:
        raise ValueError(f"ends at {content['span_end']}, before it starts at {content['span_start']}")
    if not content["clip_id"].endswith(".mp4"):
        raise ValueError(f"clip_id {content['clip_id']} does not end in .mp4")
    names = {name: content[name] for name in ("url", "video_id", "clip_id")}
    return ClipLine(**names, caption=content["caption"].strip(), start=start, end=end, content=content)


def cut_clips(
    folder: Path, clips: list[ClipLine], *, report: HdvilaReport, on_clip: Callable[[str], None] = lambda name: None
) -> None:
    """Cut clips out of `folder/videos_orig`, and write their captions and descriptions. Existing clips are kept.

    Args:
        folder: the dataset.
        clips: what to cut.
        report: gets the names of the clips.
        on_clip: called with the name of each clip when it is done.
    """
    for name in ("videos", "metas"):
        (folder / name).mkdir(parents=True, exist_ok=True)
        remove_debris(folder / name)
    for clip in clips:
        target = folder / "videos" / clip.clip_id
        try:
            if target.is_file():
                report.kept.append(clip.stem)
            else:
                _cut(folder / ORIGINALS / f"{clip.video_id}.mp4", target, clip)
                report.done.append(clip.stem)
            write_text(folder / "metas" / f"{clip.stem}.json", json.dumps(clip.content, ensure_ascii=False) + "\n")
            write_text(folder / "metas" / f"{clip.stem}.txt", clip.caption + "\n")
        except VideoError as error:
            report.bad[clip.stem] = str(error)
        on_clip(clip.stem)


def cut_indices(probe: VideoProbe, start: Fraction, end: Fraction) -> list[int]:
    """Return the frames of a clip at the video's average rate: the one nearest to `start` first, none from `end` on.

    Spans are rounded to the millisecond, so the frame nearest to one is the frame that was meant.
    """
    fps = Fraction(probe.fps).limit_denominator(1001)
    first = nearest_index(probe, start)
    count = max(1, round((min(end, probe.duration) - probe.seconds[first]) * fps))
    return [nearest_index(probe, probe.seconds[first] + k / fps) for k in range(count)]


def _cut(source: Path, target: Path, clip: ClipLine) -> None:
    """Cut one clip at the exact frames, which needs encoding it again: a stream copy can begin at a keyframe only."""
    if not source.is_file():
        raise VideoError(f"{ORIGINALS}/{source.name} is missing")
    probe = probe_video(source)
    if clip.end > probe.duration + OVERHANG:
        raise VideoError(f"ends at {float(clip.end):.3f} s, but its video ends at {float(probe.duration):.3f} s")
    if not probe.fps:
        raise VideoError("its video has no frame rate")
    with staged(target) as temporary:
        _encode(source, probe, cut_indices(probe, clip.start, clip.end), temporary)


def _encode(source: Path, probe: VideoProbe, indices: list[int], target: Path) -> None:
    """Write frames and the sound that belongs to them as H.264 and AAC."""
    size = even_size(probe.height, probe.width)
    silent = target.with_name(".silent.mp4") if has_sound(source) else target
    with encode_to(silent, size=size, fps=probe.fps, encoding=FOR_VIEWING) as append:
        for frame_3_H_W in iter_frames(source, probe, indices):
            append(frame_3_H_W[None, :, : size[0], : size[1]])
    if silent != target:
        start = float(probe.seconds[indices[0]])
        _add_sound(silent, source, start, start + len(indices) / probe.fps, target)


def _add_sound(silent: Path, source: Path, start: float, end: float, target: Path) -> None:
    """Copy the silent video and add the sound of `source` from `start` to `end` seconds."""
    from moviepy import AudioFileClip
    from moviepy.video.io.ffmpeg_tools import ffmpeg_merge_video_audio

    sound_file = target.with_name(".sound.m4a")
    try:
        with AudioFileClip(str(source)) as sound:
            if start >= sound.duration:  # it is over before the clip begins
                os.replace(silent, target)
                return
            sound.subclipped(start, min(end, sound.duration)).write_audiofile(str(sound_file), codec="aac", logger=None)
        ffmpeg_merge_video_audio(str(silent), str(sound_file), str(target), logger=None)
    except OSError as error:  # what moviepy raises when its ffmpeg fails
        raise VideoError(f"cannot be written: {reason_of(error)}") from error


def has_sound(source: Path) -> bool:
    """Return whether a file has an audio stream."""
    with open_video(source) as (container, _):
        return bool(container.streams.audio)


def download_originals(
    folder: Path, clips: list[ClipLine], *, report: HdvilaReport, on_video: Callable[[str], None] = lambda name: None
) -> None:
    """Fetch the clips' videos to `folder/videos_orig`. Existing ones are kept; a partial one never has a video's name.

    Args:
        folder: the dataset.
        clips: whose videos to fetch.
        report: gets the ids of the videos.
        on_video: called with the id of each video when it is done.

    Raises:
        UserError: pytubefix, which upstream uses for this, is not installed.
    """
    try:
        from pytubefix import YouTube
    except ImportError as error:
        raise UserError(
            f"--do-download needs pytubefix (pip install pytubefix); or put VIDEO_ID.mp4 into {folder / ORIGINALS}"
        ) from error
    place = folder / ORIGINALS
    place.mkdir(parents=True, exist_ok=True)
    remove_debris(place)
    for clip in clips:
        target = place / f"{clip.video_id}.mp4"
        if target.is_file():
            report.kept.append(clip.video_id)
        else:
            try:
                stream = YouTube(clip.url).streams.get_highest_resolution()
                if stream is None:
                    raise ValueError("it is not offered as mp4")
                with staged(target) as partial:
                    stream.download(output_path=str(partial.parent), filename=partial.name)
                    probe_video(partial)
            except Exception as error:  # the network and that package fail in any way; one video must not end the run
                report.bad[clip.video_id] = f"{clip.url}: {type(error).__name__}: {error}"
            else:
                report.done.append(clip.video_id)
        on_video(clip.video_id)
