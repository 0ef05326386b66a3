"""The image is described by files that agree with each other; building it needs a container engine."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")


@pytest.fixture(scope="module")
def versions(repo_root: Path) -> dict[str, str]:
    lines = (repo_root / "containers/versions.env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


@pytest.fixture(scope="module")
def dependencies(repo_root: Path) -> dict[str, str]:
    project = tomllib.loads((repo_root / "pyproject.toml").read_text())["project"]
    split = (re.match(r"([\w-]+)(?:\[.*\])?(.*)", text) for text in project["dependencies"])
    return {match[1]: match[2] for match in split if match}


@pytest.mark.parametrize(
    "package", ["nemo_toolkit", "megatron-core", "nemo_run", "nvidia-modelopt", "nvidia-resiliency-ext"]
)
def test_pins_of_the_image_agree_with_pyproject(
    versions: dict[str, str], dependencies: dict[str, str], package: str
) -> None:
    assert dependencies[package] == f"=={versions[package.replace('-', '_').upper() + '_VERSION']}"


def test_torch_of_the_image_is_one_that_pyproject_allows(
    versions: dict[str, str], dependencies: dict[str, str]
) -> None:
    from packaging.specifiers import SpecifierSet

    # NVIDIA's builds are pre-releases with a local part.
    built = f"{versions['TORCH_VERSION']}.0a0+image"
    assert SpecifierSet(dependencies["torch"]).contains(built, prereleases=True)


def test_base_image_is_named_once(repo_root: Path, versions: dict[str, str]) -> None:
    folders = [repo_root / "containers", repo_root / "recipes", repo_root / "cosmos_nemo", repo_root / "scripts"]
    files = [repo_root / "Dockerfile", repo_root / "pyproject.toml", repo_root / "Makefile"]
    files += [path for folder in folders for path in folder.rglob("*") if path.suffix in (".py", ".sh", ".env", ".md")]
    naming = [path.name for path in files if path.is_file() and "nvcr.io/" in path.read_text()]
    assert naming == ["versions.env"]
    assert re.fullmatch(r"nvcr\.io/nvidia/nemo:[\d.]+", versions["BASE_IMAGE"])


def test_every_copied_source_exists_and_is_sent_to_the_builder(repo_root: Path) -> None:
    ignore = (repo_root / ".dockerignore").read_text().splitlines()
    copies = re.findall(r"^COPY (.+)$", (repo_root / "Dockerfile").read_text(), re.MULTILINE)
    sources = [source for line in copies for source in line.split()[:-1]]
    assert sources
    for source in sources:
        assert (repo_root / source).exists(), f"Dockerfile copies {source}, which does not exist"
        assert f"!{source}" in ignore, f".dockerignore keeps {source} from the builder"


def test_everything_the_package_is_made_of_is_copied(repo_root: Path) -> None:
    project = tomllib.loads((repo_root / "pyproject.toml").read_text())
    packages = [pattern.rstrip("*") for pattern in project["tool"]["setuptools"]["packages"]["find"]["include"]]
    metadata = [project["project"]["readme"], *project["project"]["license-files"]]
    copied = (repo_root / "Dockerfile").read_text()
    assert [name for name in packages + metadata if not re.search(rf"^COPY .*\b{name}\b", copied, re.MULTILINE)] == []


@pytest.fixture(scope="module")
def install(repo_root: Path):
    spec = importlib.util.spec_from_file_location("containers_install", repo_root / "containers/install.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_images_own_builds_are_kept(install) -> None:
    for name in ("torch", "transformer-engine", "transformer-engine-torch", "apex", "flash-attn", "nvidia-cudnn-cu12"):
        assert install.KEEP.match(name), name
    for name in ("nemo-toolkit", "megatron-core", "numpy", "transformers", "torchmetrics"):
        assert not install.KEEP.match(name), name


def test_a_replaced_build_fails_the_installation(install, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = iter([{"torch": "2.9.0a0+image", "apex": "0.1"}, {"torch": "2.13.0", "apex": "0.1"}])
    monkeypatch.setattr(install, "kept", lambda: next(answers))
    monkeypatch.setattr(install, "installer", lambda: [sys.executable, "-c", "pass"])
    with pytest.raises(SystemExit, match=r"torch 2\.9\.0a0\+image -> 2\.13\.0"):
        install.main()
