from pathlib import Path

import av
import numpy as np
import pytest
import torch

from cosmos_nemo.errors import UserError
from cosmos_nemo.inference import reconstruct as room
from cosmos_nemo.inference.latent_statistics import write_latent_statistics
from cosmos_nemo.inference.reconstruct import reconstruct
from cosmos_nemo.inference.tokenizer_options import LatentStatisticsOptions, ReconstructOptions
from cosmos_nemo.media.frames import read_frames
from cosmos_nemo.media.probe import probe_video
from cosmos_nemo.tokenizers.cosmos.tokenizer import Coded, load_cosmos_tokenizer
from cosmos_nemo.tokenizers.tiny import write_tiny_wan


def write_lossless(path: Path, num_frames: int, height: int, width: int, *, pixel_format: str = "bgr0") -> Path:
    """A moving gradient of any size."""
    rows = np.linspace(0, 200, height * width).reshape(height, width)
    with av.open(str(path), mode="w") as container:
        stream = container.add_stream("ffv1", rate=8)
        stream.width, stream.height, stream.pix_fmt = width, height, pixel_format
        for index in range(num_frames):
            pixels = np.stack([rows + index, rows, 200 - rows], axis=-1).clip(0, 255).astype(np.uint8)
            container.mux(
                stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format=pixel_format))
            )
        container.mux(stream.encode())
    return path


class Darker:
    """A tokenizer that loses a known amount, and notes what it is given."""

    temporal_compression = 8
    spatial_compression = 8
    vocab_size = 16

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def reconstruct(self, pieces):
        for piece in pieces:
            self.shapes.append(tuple(piece.shape))
            yield Coded(piece - 2 * 4 / 255, torch.zeros(1, 1, 2, 2, dtype=torch.int32))


@pytest.fixture
def darker(monkeypatch):
    tokenizer = Darker()
    monkeypatch.setattr(room, "load_video_tokenizer", lambda path, **_: tokenizer)
    return tokenizer


def options(tmp_path: Path, source: Path, **fields: object) -> ReconstructOptions:
    return ReconstructOptions(tokenizer=tmp_path, input=source, output=tmp_path / "out.mp4", device="cpu", **fields)


@pytest.mark.parametrize(("height", "width", "num_frames"), [(32, 48, 33), (37, 50, 30), (24, 24, 1)])
def test_any_size_and_length_is_coded_padded_and_cut_back(tmp_path, darker, height, width, num_frames):
    source = write_lossless(tmp_path / "in.mkv", num_frames, height, width)
    result = reconstruct(options(tmp_path, source, chunk_frames=17))
    assert (result.num_frames, result.height, result.width) == (num_frames, height, width)
    # Every pixel is 4 steps darker (a few are dark already), so the error is known.
    assert result.psnr == pytest.approx(20 * np.log10(255 / 4), abs=0.3)
    assert result.ssim is not None and 0.9 < result.ssim <= 1
    assert result.use is not None and result.use.dead == 15 and "1 different" in str(result)
    padded = (-(-height // 8) * 8, -(-width // 8) * 8)
    lengths = [shape[2] for shape in darker.shapes]
    assert {shape[3:] for shape in darker.shapes} == {padded}
    # A chunk begins with one frame; no more than a latent's worth is held at a time.
    assert lengths[0] == 1 and set(lengths) <= {1, 8}
    assert lengths.count(1) == -(-num_frames // 17)
    written = probe_video(result.path)
    assert (written.num_frames, written.height, written.width) == (num_frames, height + height % 2, 2 * width)
    shown = read_frames(result.path, written, start=0, num_frames=num_frames).float()
    left, right = shown[..., :height, :width], shown[..., :height, width:]
    assert (left - right).mean().item() == pytest.approx(4, abs=1.5)


def test_grey_video_is_taken_as_colour(tmp_path, darker):
    source = write_lossless(tmp_path / "grey.mkv", 9, 32, 32, pixel_format="gray")
    assert reconstruct(options(tmp_path, source)).num_frames == 9


def test_stops_where_asked(tmp_path, darker):
    source = write_lossless(tmp_path / "in.mkv", 30, 16, 16)
    assert reconstruct(options(tmp_path, source, max_frames=10)).num_frames == 10


@pytest.mark.parametrize("kind", ["cv", "dv", "wan"])
def test_every_kind_of_tokenizer_reconstructs(tmp_path, exported_tokenizers, kind):
    folder = write_tiny_wan(tmp_path / "wan", seed=0) if kind == "wan" else exported_tokenizers[kind][2]
    source = write_lossless(tmp_path / "in.mkv", 12, 24, 40)
    result = reconstruct(ReconstructOptions(tokenizer=folder, input=source, output=tmp_path / "out.mp4", device="cpu"))
    assert result.num_frames == 12 and result.path.stat().st_size > 0
    assert (result.use is not None) == (kind == "dv")


@torch.no_grad()
def test_pieces_reconstruct_what_the_whole_does(tmp_path, exported_tokenizers):
    folder = exported_tokenizers["dv"][2]
    tokenizer = load_cosmos_tokenizer(folder)
    video = torch.rand(1, 3, 17, 32, 32) * 2 - 1
    coded = list(tokenizer.reconstruct([video[:, :, :1], video[:, :, 1:9], video[:, :, 9:]]))
    assert torch.equal(torch.cat([c.tokens_B_T_H_W for c in coded], dim=1), tokenizer.encode(video))
    torch.testing.assert_close(
        torch.cat([c.video_B_3_T_H_W for c in coded], dim=2),
        tokenizer.decode(tokenizer.encode(video)),
        atol=1e-4,
        rtol=0,
    )


def test_bad_input_is_named(tmp_path, darker):
    text = tmp_path / "text.mp4"
    text.write_text("not a video")
    with pytest.raises(UserError, match=r"text\.mp4"):
        reconstruct(options(tmp_path, text))
    assert not (tmp_path / "out.mp4").exists()
    with pytest.raises(UserError, match="no video at"):
        reconstruct(options(tmp_path, tmp_path / "absent.mp4"))
    source = write_lossless(tmp_path / "in.mkv", 2, 16, 16)
    with pytest.raises(UserError, match=r"must end in \.mp4"):
        reconstruct(ReconstructOptions(tokenizer=tmp_path, input=source, output=tmp_path / "out.gif", device="cpu"))
    with pytest.raises(UserError, match="would replace the input"):
        reconstruct(ReconstructOptions(tokenizer=tmp_path, input=text, output=text, device="cpu"))
    with pytest.raises(UserError, match="8 k"):
        reconstruct(options(tmp_path, source, chunk_frames=16))


def test_statistics_of_videos_make_latents_standard(tmp_path, exported_tokenizers):
    folder = tmp_path / "cv"
    folder.mkdir()
    (folder / "autoencoder.jit").write_bytes((exported_tokenizers["cv"][2] / "autoencoder.jit").read_bytes())
    videos = tmp_path / "videos"
    videos.mkdir()
    for index in range(3):
        write_lossless(videos / f"{index}.mkv", 9 + 3 * index, 32 + 8 * index, 44)
    (videos / "broken.mp4").write_text("not a video")
    printed = write_latent_statistics(LatentStatisticsOptions(tokenizer=folder, videos=(videos,), device="cpu"))
    assert "3 of 4 videos" in printed
    tokenizer = load_cosmos_tokenizer(folder)
    assert tokenizer.normalised
    clip = read_frames(videos / "1.mkv", probe_video(videos / "1.mkv"), start=0, num_frames=9)
    latent = tokenizer.encode(clip[None, :, :, :40, :40].float() / 127.5 - 1)
    assert latent.abs().mean() < 2 and 0.2 < latent.std() < 3
    with pytest.raises(UserError, match="--overwrite"):
        write_latent_statistics(LatentStatisticsOptions(tokenizer=folder, videos=(videos,), device="cpu"))
    with pytest.raises(UserError, match="tokens need no statistics"):
        write_latent_statistics(
            LatentStatisticsOptions(tokenizer=exported_tokenizers["dv"][2], videos=(videos,), device="cpu")
        )
