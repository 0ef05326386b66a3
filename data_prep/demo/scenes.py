"""Small physical scenes: the dynamics, in metres and seconds, without any drawing.

Each scene draws its parameters from a generator, integrates real equations of motion, and gives one list of shapes
per frame. The world is 4.2 m wide and 2.8 m high; the origin is at the lower left, y points up.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

WORLD_WIDTH = 4.2  # metres
WORLD_HEIGHT = 2.8
FLOOR = 0.35  # height of the floor's surface
GRAVITY = 9.81  # m/s^2
SUBSTEPS = 200  # integration steps per frame: errors stay far below a pixel

COLORS = {
    "red": (205, 45, 40),
    "blue": (40, 85, 200),
    "green": (45, 150, 65),
    "yellow": (235, 195, 40),
    "purple": (130, 60, 170),
    "orange": (235, 125, 35),
    "pink": (235, 95, 160),
    "black": (35, 35, 40),
}
WALLS = {"light grey": (205, 205, 210), "pale blue": (185, 210, 230), "beige": (225, 212, 185)}
FLOORS = {"dark grey": (95, 95, 100), "brown": (125, 90, 60), "dark green": (60, 95, 70)}


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A coloured figure in world coordinates."""

    kind: str
    """"disc" or "polygon"."""
    color: tuple[int, int, int]
    points: tuple[tuple[float, float], ...]
    """Centre of a disc, or corners of a polygon."""
    radius: float = 0.0
    """Of a disc."""


@dataclass(frozen=True, kw_only=True)
class Scene:
    """A simulated scene."""

    kind: str
    caption: str
    wall: tuple[int, int, int]
    floor: tuple[int, int, int] | None
    """Colour of the floor; None for a view from above, which shows none."""
    frames: tuple[tuple[Shape, ...], ...]


def _stage(rng: np.random.Generator, *, floor: bool = True) -> tuple[str, tuple[int, int, int], tuple[int, int, int]]:
    wall = str(rng.choice(list(WALLS)))
    ground = str(rng.choice(list(FLOORS)))
    text = f"a {ground} floor, in front of a {wall} wall" if floor else f"a {wall} table"
    return text, WALLS[wall], FLOORS[ground]


def _colors(rng: np.random.Generator, count: int) -> list[str]:
    return [str(name) for name in rng.choice(list(COLORS), size=count, replace=False)]


def _a(color: str) -> str:
    return f"{'An' if color[0] in 'aeiou' else 'A'} {color}"


def _disc(color: str, centre: Sequence[float] | np.ndarray, radius: float) -> Shape:
    return Shape(kind="disc", color=COLORS[color], points=((float(centre[0]), float(centre[1])),), radius=float(radius))


def _fly(
    position: np.ndarray, velocity: np.ndarray, radius: float, restitution: float, dt: float
) -> tuple[np.ndarray, np.ndarray]:
    """Move a ball by one step under gravity, between the floor and the two side walls."""
    velocity = velocity + np.array([0.0, -GRAVITY]) * dt
    position = position + velocity * dt
    if position[1] < FLOOR + radius and velocity[1] < 0:
        position[1] = FLOOR + radius
        velocity = velocity * np.array([0.98, -restitution])
    if (position[0] < radius and velocity[0] < 0) or (position[0] > WORLD_WIDTH - radius and velocity[0] > 0):
        velocity = velocity * np.array([-restitution, 1.0])
    return position, velocity


def bouncing_ball(rng: np.random.Generator, num_frames: int, fps: float) -> Scene:
    """Drop a ball with some sideways speed; each bounce keeps a fixed share of the speed, the restitution."""
    (color,), (place, wall, floor) = _colors(rng, 1), _stage(rng)
    radius, restitution = rng.uniform(0.34, 0.48), rng.uniform(0.7, 0.9)
    position = np.array([rng.uniform(0.7, 3.5), rng.uniform(1.7, 2.3)])
    velocity = np.array([rng.uniform(0.3, 1.0) * rng.choice([-1, 1]), 0.0])
    frames = []
    for _ in range(num_frames):
        frames.append((_disc(color, position, radius),))
        for _ in range(SUBSTEPS):
            position, velocity = _fly(position, velocity, radius, restitution, 1 / (fps * SUBSTEPS))
    side = "right" if frames[1][0].points[0][0] > frames[0][0].points[0][0] else "left"
    caption = f"{_a(color)} ball falls and bounces to the {side} on {place}."
    return Scene(kind="bouncing_ball", caption=caption, wall=wall, floor=floor, frames=tuple(frames))


def projectile(rng: np.random.Generator, num_frames: int, fps: float) -> Scene:
    """Throw a ball from one side: it follows a parabola, lands and rolls on with small bounces."""
    (color,), (place, wall, floor) = _colors(rng, 1), _stage(rng)
    radius, direction = rng.uniform(0.28, 0.38), int(rng.choice([-1, 1]))
    position = np.array([0.4 if direction > 0 else WORLD_WIDTH - 0.4, rng.uniform(0.8, 1.2)])
    velocity = np.array([direction * rng.uniform(1.9, 2.8), rng.uniform(2.8, 4.6)])
    frames = []
    for _ in range(num_frames):
        frames.append((_disc(color, position, radius),))
        for _ in range(SUBSTEPS):
            position, velocity = _fly(position, velocity, radius, 0.45, 1 / (fps * SUBSTEPS))
    caption = f"{_a(color)} ball is thrown to the {'right' if direction > 0 else 'left'} and lands on {place}."
    return Scene(kind="projectile", caption=caption, wall=wall, floor=floor, frames=tuple(frames))


def pendulum(rng: np.random.Generator, num_frames: int, fps: float) -> Scene:
    """Swing a bob on a rigid rod, `theta'' = -g/L sin(theta) - c theta'`, without the small-angle approximation."""
    (color,), (place, wall, floor) = _colors(rng, 1), _stage(rng)
    length, radius, damping = rng.uniform(1.2, 1.6), rng.uniform(0.31, 0.42), 0.15
    angle, speed = rng.uniform(0.5, 1.1) * rng.choice([-1, 1]), 0.0
    pivot = (WORLD_WIDTH / 2 + rng.uniform(-0.4, 0.4), 2.6)
    frames, dt = [], 1 / (fps * SUBSTEPS)
    for _ in range(num_frames):
        bob = (pivot[0] + length * math.sin(angle), pivot[1] - length * math.cos(angle))
        frames.append((_bar(pivot, bob, 0.07, COLORS["black"]), _disc(color, bob, radius)))
        for _ in range(SUBSTEPS):
            speed += (-GRAVITY / length * math.sin(angle) - damping * speed) * dt
            angle += speed * dt
    caption = f"A pendulum with {_a(color).lower()} bob swings above {place}."
    return Scene(kind="pendulum", caption=caption, wall=wall, floor=floor, frames=tuple(frames))


def collision(rng: np.random.Generator, num_frames: int, fps: float) -> Scene:
    """Let two discs on a table collide elastically, seen from above; their masses are as their areas."""
    (first, second), (place, wall, _) = _colors(rng, 2), _stage(rng, floor=False)
    radii = rng.uniform(0.39, 0.56, size=2)
    position = np.array([[0.6, 1.4 + rng.uniform(-0.4, 0.4)], [3.0, 1.4 + rng.uniform(-0.4, 0.4)]])
    target = position[1] + np.array([0.0, rng.uniform(-0.2, 0.2)])
    aim = (target - position[0]) / np.linalg.norm(target - position[0])
    velocity = np.stack([aim * rng.uniform(1.8, 2.8), np.array([-rng.uniform(0.0, 0.6), 0.0])])
    frames, dt = [], 1 / (fps * SUBSTEPS)
    for _ in range(num_frames):
        frames.append(tuple(_disc(c, p, r) for c, p, r in zip((first, second), position, radii, strict=True)))
        for _ in range(SUBSTEPS):
            position = position + velocity * dt
            velocity = _bounce_off_rim(position, _collide(position, velocity, radii), radii)
    caption = f"{_a(first)} disc slides to the right and hits {_a(second).lower()} disc on {place}, seen from above."
    return Scene(kind="collision", caption=caption, wall=wall, floor=None, frames=tuple(frames))


def _collide(position: np.ndarray, velocity: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """Return the velocities after an elastic collision, if the discs touch and approach; shapes [2, 2], [2, 2], [2]."""
    gap = position[1] - position[0]
    distance = float(np.linalg.norm(gap))
    normal = gap / distance
    approach = float((velocity[0] - velocity[1]) @ normal)
    if distance > radii.sum() or approach <= 0:
        return velocity
    mass = radii**2
    impulse = 2 * approach * mass[0] * mass[1] / mass.sum()
    return velocity + np.stack([-normal / mass[0], normal / mass[1]]) * impulse


def _bounce_off_rim(position: np.ndarray, velocity: np.ndarray, radii: np.ndarray) -> np.ndarray:
    low = (position < radii[:, None]) & (velocity < 0)
    high = (position > np.array([WORLD_WIDTH, WORLD_HEIGHT]) - radii[:, None]) & (velocity > 0)
    return np.where(low | high, -velocity, velocity)


def incline(rng: np.random.Generator, num_frames: int, fps: float) -> Scene:
    """Let a block slide down a ramp, `a = g (sin(alpha) - mu cos(alpha))`, and then along the floor, `a = -mu g`."""
    (color,), (place, wall, floor) = _colors(rng, 1), _stage(rng)
    alpha, friction, size = rng.uniform(0.5, 0.65), rng.uniform(0.3, 0.4), rng.uniform(0.56, 0.7)
    ramp_width = rng.uniform(2.1, 2.5)
    direction = int(rng.choice([-1, 1]))
    ramp_length = ramp_width / math.cos(alpha)
    distance, speed, dt = size, 0.0, 1 / (fps * SUBSTEPS)  # distance from the top of the ramp along the path
    frames = []
    for _ in range(num_frames):
        corners = ((0.0, FLOOR), (ramp_width, FLOOR), (0.0, FLOOR + ramp_width * math.tan(alpha)))
        block = _block(distance, ramp_length, ramp_width, alpha, size)
        frames.append((_polygon(corners, (150, 150, 155), direction), _polygon(block, COLORS[color], direction)))
        for _ in range(SUBSTEPS):
            slope = alpha if distance < ramp_length else 0.0
            speed = max(0.0, speed + GRAVITY * (math.sin(slope) - friction * math.cos(slope)) * dt)
            distance += speed * dt
    caption = f"{_a(color)} block slides down a ramp to the {'right' if direction > 0 else 'left'} onto {place}."
    return Scene(kind="incline", caption=caption, wall=wall, floor=floor, frames=tuple(frames))


def _block(
    distance: float, ramp_length: float, ramp_width: float, alpha: float, size: float
) -> list[tuple[float, float]]:
    """Return the corners of the block whose lower edge is centred at `distance` along ramp and floor."""
    if distance < ramp_length:
        base = np.array([distance * math.cos(alpha), FLOOR + (ramp_length - distance) * math.sin(alpha)])
        along = np.array([math.cos(alpha), -math.sin(alpha)])
    else:
        base, along = np.array([ramp_width + distance - ramp_length, FLOOR]), np.array([1.0, 0.0])
    up = np.array([-along[1], along[0]])
    half = size / 2
    corners = [
        base - along * half,
        base + along * half,
        base + along * half + up * size,
        base - along * half + up * size,
    ]
    return [(float(x), float(y)) for x, y in corners]


def _polygon(
    corners: list[tuple[float, float]] | tuple[tuple[float, float], ...], color: tuple[int, int, int], direction: int
) -> Shape:
    points = tuple((x if direction > 0 else WORLD_WIDTH - x, y) for x, y in corners)
    return Shape(kind="polygon", color=color, points=points)


def _bar(start: tuple[float, float], end: tuple[float, float], width: float, color: tuple[int, int, int]) -> Shape:
    dx, dy = end[0] - start[0], end[1] - start[1]
    scale = width / 2 / math.hypot(dx, dy)
    nx, ny = -dy * scale, dx * scale
    corners = (
        (start[0] + nx, start[1] + ny),
        (end[0] + nx, end[1] + ny),
        (end[0] - nx, end[1] - ny),
        (start[0] - nx, start[1] - ny),
    )
    return Shape(kind="polygon", color=color, points=corners)


SCENES: dict[str, Callable[[np.random.Generator, int, float], Scene]] = {
    "bouncing_ball": bouncing_ball,
    "pendulum": pendulum,
    "collision": collision,
    "incline": incline,
    "projectile": projectile,
}
