"""Scenes are drawn where their world says, at any size."""

import numpy as np

from data_prep.demo.draw import draw_scene
from data_prep.demo.scenes import WORLD_HEIGHT, WORLD_WIDTH, Scene, Shape

RED, WALL, FLOOR = (255, 0, 0), (200, 200, 200), (0, 80, 0)


def ball_at(x, y):
    disc = Shape(kind="disc", color=RED, points=((x * WORLD_WIDTH, y * WORLD_HEIGHT),), radius=0.3)
    return Scene(kind="test", caption="A ball.", wall=WALL, floor=FLOOR, frames=((disc,), ()))


def test_a_ball_is_where_the_world_has_it_and_y_points_up():
    for height, width in ((64, 96), (32, 100)):
        with_ball, without = draw_scene(ball_at(0.25, 0.75), height=height, width=width).astype(int)
        assert with_ball.shape == (height, width, 3)
        rows, columns = np.nonzero(np.abs(with_ball - without).sum(axis=-1))
        assert abs(rows.mean() / height - 0.25) < 0.03 and abs(columns.mean() / width - 0.25) < 0.03


def test_the_floor_is_at_the_bottom_and_the_wall_above():
    _, empty = draw_scene(ball_at(0.5, 0.5), height=64, width=96)
    assert tuple(empty[0, 0]) == WALL and tuple(empty[-1, -1]) == FLOOR
