"""Draw the scenes of `scenes.py`."""

import numpy as np
from PIL import Image, ImageDraw

from data_prep.demo.scenes import FLOOR, WORLD_HEIGHT, WORLD_WIDTH, Scene, Shape

OVERSAMPLING = 4  # drawn this much larger and reduced: edges move by fractions of a pixel


def draw_scene(scene: Scene, *, height: int, width: int) -> np.ndarray:
    """Render a scene.

    Returns:
        uint8 RGB frames, shape [T, height, width, 3].
    """
    background = _background(scene, height, width)
    frames = []
    for shapes in scene.frames:
        canvas = background.copy()
        pen = ImageDraw.Draw(canvas)
        for shape in shapes:
            _draw_shape(pen, shape, height * OVERSAMPLING, width * OVERSAMPLING)
        frames.append(np.asarray(canvas.resize((width, height), Image.Resampling.BOX)))
    return np.stack(frames)


def _background(scene: Scene, height: int, width: int) -> Image.Image:
    canvas = Image.new("RGB", (width * OVERSAMPLING, height * OVERSAMPLING), scene.wall)
    if scene.floor is not None:
        top = _to_pixels((0.0, FLOOR), canvas.height, canvas.width)[1]
        ImageDraw.Draw(canvas).rectangle((0, top, canvas.width, canvas.height), fill=scene.floor)
    return canvas


def _to_pixels(point: tuple[float, float], height: int, width: int) -> tuple[float, float]:
    return point[0] / WORLD_WIDTH * width, (1 - point[1] / WORLD_HEIGHT) * height


def _draw_shape(pen: ImageDraw.ImageDraw, shape: Shape, height: int, width: int) -> None:
    points = [_to_pixels(point, height, width) for point in shape.points]
    if shape.kind == "polygon":
        pen.polygon(points, fill=shape.color)
        return
    # A world that is not 3:2 on the screen makes ellipses of discs, as a stretched video would.
    (x, y), rx, ry = points[0], shape.radius / WORLD_WIDTH * width, shape.radius / WORLD_HEIGHT * height
    pen.ellipse((x - rx, y - ry, x + rx, y + ry), fill=shape.color)
    light = tuple(int(c + (255 - c) * 0.55) for c in shape.color)
    pen.ellipse((x - 0.55 * rx, y - 0.55 * ry, x - 0.05 * rx, y - 0.05 * ry), fill=light)
