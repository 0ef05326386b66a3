"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

# One thread per process: the multi-process tests would otherwise fight over the cores, and the
# reduction order of a threaded matrix product is not the same at another thread count.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

REPO_ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def repo_root() -> Path:
    """The root of this repository."""
    return REPO_ROOT


@pytest.fixture(scope="session")
def shared_dir() -> Path:
    """The folder with golden vectors and real videos, which lies beside a developer's checkout.

    A clone on its own has no such folder; the tests that need it are skipped there.
    """
    path = Path(os.environ.get("COSMOS_NEMO_SHARED_DIR", REPO_ROOT.parent / "shared"))
    if not (path / "golden").is_dir():
        pytest.skip(f"golden vectors and sample videos are not at {path} (set COSMOS_NEMO_SHARED_DIR)")
    return path


@pytest.fixture(scope="session")
def exported_tokenizers(tmp_path_factory):
    """Small Cosmos tokenizers in the published files, per kind ("cv", "dv"): a config, its network, the folder."""
    from cosmos_nemo.tokenizers.cosmos.jit import export_jit
    from tests.tokenizers.cosmos.clips import random_network, tiny_config

    root = tmp_path_factory.mktemp("exported")
    result = {}
    for kind in ("cv", "dv"):
        config = tiny_config(discrete=kind == "dv")
        network = random_network(config)
        export_jit(network, config, root / kind)
        result[kind] = (config, network, root / kind)
    return result
