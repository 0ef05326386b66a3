import av
import torch

from cosmos_nemo.media.comparison import write_comparison
from cosmos_nemo.media.strip import StripRow


def flat(color, num_frames):
    return torch.tensor(color, dtype=torch.uint8)[None, :, None, None].expand(num_frames, 3, 32, 48)


def test_rows_play_side_by_side_and_a_short_one_holds_its_last_frame(tmp_path):
    rows = [
        StripRow(label="input", frames_T_3_H_W=flat((250, 0, 0), 1)),
        StripRow(label="generated", frames_T_3_H_W=flat((0, 250, 0), 5)),
        StripRow(label="truth", frames_T_3_H_W=flat((0, 0, 250), 9)),
    ]
    write_comparison(tmp_path / "c.mp4", rows, num_frames=5, fps=8)
    with av.open(str(tmp_path / "c.mp4")) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == 5
    assert frames[-1].shape == (32, 3 * 48, 3)
    colours = [frames[-1][16, 24 + 48 * column].argmax() for column in range(3)]
    assert colours == [0, 1, 2]
    assert [path.name for path in tmp_path.iterdir()] == ["c.mp4"]
