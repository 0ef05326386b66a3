"""Install this package into a NeMo Framework image and leave the image's own CUDA builds alone.

Run during `docker build`. Needs the standard library only. Every package of `KEEP` that the image has is pinned to the
installed version while the rest is resolved, and compared again afterwards: a wheel from the index would run, slower
or on another CUDA, and nobody would notice.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

KEEP = re.compile(
    r"^(torch|torchvision|torchaudio|pytorch-triton|triton|transformer-engine.*|apex|flash-attn.*|nvidia-c.*|nvidia-n.*"
    r"|nvidia-dali.*|causal-conv1d|mamba-ssm|grouped-gemm|deep-ep)$"
)


def kept() -> dict[str, str]:
    """Name and version of every installed package that must stay."""
    found = {}
    for distribution in importlib.metadata.distributions():
        name = re.sub(r"[-_.]+", "-", distribution.metadata["Name"] or "").lower()
        if KEEP.match(name):
            found[name] = distribution.version
    return found


def installer() -> list[str]:
    """The install command of this image: pip, or uv where the environment has no pip.

    Raises:
        SystemExit: neither is there.
    """
    if importlib.util.find_spec("pip"):
        return [sys.executable, "-m", "pip", "install"]
    if shutil.which("uv"):
        return ["uv", "pip", "install", "--python", sys.executable]
    raise SystemExit("error: this image has neither pip nor uv; take the base image of containers/versions.env")


def main(source: str = ".") -> None:
    """Install the package in `source` with everything of `KEEP` pinned.

    Raises:
        SystemExit: the installation failed, or a package that must stay was changed.
    """
    before = kept()
    if "torch" not in before:
        raise SystemExit("error: no torch in this image; take the base image of containers/versions.env")
    environment = dict(os.environ)
    # NVIDIA's images constrain pip to the versions they ship, also of packages that nobody compiled for them.
    environment.pop("PIP_CONSTRAINT", None)
    with tempfile.TemporaryDirectory() as folder:
        constraints = pathlib.Path(folder) / "keep.txt"
        constraints.write_text("".join(f"{name}=={version}\n" for name, version in sorted(before.items())))
        command = [*installer(), "--no-cache-dir", "--constraint", str(constraints), source]
        code = subprocess.run(command, env=environment, check=False).returncode
    if code:
        raise SystemExit(code)
    after = kept()
    changed = [
        f"{name} {old} -> {after.get(name, 'removed')}" for name, old in before.items() if after.get(name) != old
    ]
    if changed:
        raise SystemExit(f"error: the image's own builds were replaced: {', '.join(changed)}")
    print("kept " + ", ".join(f"{name} {version}" for name, version in sorted(before.items())))


if __name__ == "__main__":
    main(*sys.argv[1:])
