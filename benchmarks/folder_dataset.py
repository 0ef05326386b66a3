"""The peer of `data_pipeline`: a folder of videos read as Cosmos-Predict2's own dataset class reads it.

The same steps with the same libraries, written anew: decord opens the file with two threads and decodes the frames in
one batch; torch makes them float32 in [0, 1], resizes all of them with antialiasing, and makes them uint8 again; the
pickled text embedding is padded to 512 tokens. Without decord, PyAV decodes instead, and the results say so.
"""

import pickle
from pathlib import Path

import av
import numpy as np
import torch
from torch import Tensor

try:
    import decord
except ImportError:
    decord = None

NAME = f"decord {decord.__version__} + float32 resize" if decord else "PyAV + float32 resize (decord is not installed)"


class FolderDataset:
    """`videos/*.mp4` and `t5_xxl/*.pickle`."""

    def __init__(self, folder: Path, *, num_frames: int, size: tuple[int, int]) -> None:
        """Find the videos that have an embedding."""
        self.num_frames, self.size = num_frames, size
        self.paths = sorted(p for p in (folder / "videos").glob("*.mp4") if self._embedding(p).is_file())

    @staticmethod
    def _embedding(path: Path) -> Path:
        return path.parent.parent / "t5_xxl" / f"{path.stem}.pickle"

    def get(self, index: int, start: int) -> dict[str, Tensor]:
        """One sample, from frame `start` on."""
        path = self.paths[index % len(self.paths)]
        frames_T_3_H_W = torch.from_numpy(read(path, start, self.num_frames).astype(np.uint8)).permute(0, 3, 1, 2)
        video = frames_T_3_H_W.float() / 255
        video = torch.nn.functional.interpolate(video, size=self.size, mode="bilinear", antialias=True)
        video_3_T_H_W = torch.clamp(video * 255, 0, 255).to(torch.uint8).permute(1, 0, 2, 3)
        text_L_E = pickle.loads(self._embedding(path).read_bytes())[0]
        padding = np.zeros((512 - len(text_L_E), text_L_E.shape[1]), dtype=np.float32)
        return {"video": video_3_T_H_W, "t5_text_embeddings": torch.from_numpy(np.concatenate([text_L_E, padding]))}


def read(path: Path, start: int, num_frames: int) -> np.ndarray:
    """Frames as uint8 [T, H, W, 3]."""
    if decord is not None:
        reader = decord.VideoReader(str(path), ctx=decord.cpu(0), num_threads=2)
        return reader.get_batch(np.arange(start, start + num_frames)).asnumpy()
    frames = []
    with av.open(str(path)) as container:
        for index, frame in enumerate(container.decode(video=0)):
            if index >= start:
                frames.append(frame.to_ndarray(format="rgb24"))
            if len(frames) == num_frames:
                break
    return np.stack(frames)
