"""Read a folder of golden vectors: `manifest.json` beside safetensors files."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from cosmos_nemo.errors import UserError

MANIFEST = "manifest.json"
KNOWN_FORMATS = (1, 2)
"""Both hold a list `cases` of name, kind, family, config, files by role, tolerance; 2 may omit checksums."""

_FAMILIES = {"tokenizer": "cosmos_tokenizer"}
"""Families that manifests call by another name than this project."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One entry of a manifest: a computation, its inputs and its expected results."""

    folder: Path
    """Where its files lie."""
    name: str
    """Unique in its folder."""
    kind: str
    """What is computed; with the family it decides who checks it."""
    family: str
    """The family of networks by this project's name; several are joined by `+`."""
    config: dict[str, Any]
    """Settings under upstream's names."""
    tolerance: dict[str, float]
    """Allowed differences."""
    files: dict[str, dict[str, Any]] = field(repr=False)
    """Name, size and checksum of each file, by its role."""
    extra: dict[str, Any] = field(default_factory=dict, repr=False)
    """What else the entry says: settings of an optimizer, sub-cases, ..."""

    def setting(self, key: str) -> Any:
        """Return a value of the case's config.

        Raises:
            UserError: the config has no such key.
        """
        if key not in self.config:
            raise UserError(f"config has no '{key}'")
        return self.config[key]

    def allowed(self, quantity: str) -> dict[str, float]:
        """Return the absolute tolerance of a kind of quantity ("logits", "gradients", ...).

        Raises:
            UserError: the case gives none.
        """
        if quantity not in self.tolerance:
            raise UserError(f"tolerance {dict(self.tolerance)} has no '{quantity}'")
        return {"atol": self.tolerance[quantity]}

    def load(self, role: str = "io") -> "Tensors":
        """Read one of the case's files, after checking that it is the file the manifest means.

        Args:
            role: "io", "weights", "grads", ...

        Raises:
            UserError: the file is not listed, missing, of another size or checksum, or not safetensors.
        """
        if role not in self.files:
            raise UserError(f"the manifest lists no '{role}' file")
        entry = self.files[role]
        path = self.folder / str(entry.get("file"))
        _verify(path, entry)
        try:
            return Tensors(path.name, load_file(path))
        except SafetensorError as error:
            raise UserError(f"{path.name} is not a safetensors file ({error})") from None


class Tensors(dict[str, Tensor]):
    """The tensors of one file by name; asking for an absent one is a UserError that names the file."""

    def __init__(self, file: str, tensors: dict[str, Tensor]) -> None:
        """Remember the file's name for messages."""
        super().__init__(tensors)
        self.file = file

    def __missing__(self, name: str) -> Tensor:
        """Say which tensor is missing where."""
        raise UserError(f"{self.file} has no tensor '{name}'")


def read_cases(paths: Sequence[str | Path]) -> list[Case]:
    """Read the cases of every golden folder at or below the given paths.

    Args:
        paths: folders (or manifest files); a folder without a manifest is searched for folders that have one.

    Returns:
        All cases, folders sorted by name, cases in the manifest's order.

    Raises:
        UserError: nothing found at a path, or a manifest that cannot be understood.
    """
    return [case for folder in _folders(paths) for case in read_manifest(folder)]


def read_manifest(folder: Path) -> list[Case]:
    """Parse one folder's manifest.

    Raises:
        UserError: not JSON, an unknown format, or an entry without name, kind, family or files.
    """
    path = folder / MANIFEST
    try:
        manifest = json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON ({error}); copy the golden folder again.") from None
    if not isinstance(manifest, dict) or manifest.get("format") not in KNOWN_FORMATS:
        found = manifest.get("format") if isinstance(manifest, dict) else None
        raise UserError(
            f"{path} has format {found!r}; this runner knows {KNOWN_FORMATS}. Update cosmos-nemo or the folder."
        )
    if not isinstance(manifest.get("cases"), list):
        raise UserError(f"{path} has no list 'cases'; copy the golden folder again.")
    return [_parse(path, number, entry) for number, entry in enumerate(manifest["cases"])]


def _folders(paths: Sequence[str | Path]) -> list[Path]:
    """Return every folder with a manifest at or below `paths`, each once."""
    folders: list[Path] = []
    for path in map(Path, paths):
        if path.name == MANIFEST and path.is_file():
            path = path.parent
        if not path.is_dir():
            raise UserError(f"No golden folder at {path}; give a folder that holds {MANIFEST}, or a parent of some.")
        found = [path] if (path / MANIFEST).is_file() else sorted(p.parent for p in path.rglob(MANIFEST))
        if not found:
            raise UserError(f"No {MANIFEST} in {path} or below it; give a folder of golden vectors.")
        folders += [folder for folder in found if folder not in folders]
    return folders


def _parse(path: Path, number: int, entry: Any) -> Case:
    """Turn one entry of the list `cases` into a Case."""
    if not isinstance(entry, dict):
        raise UserError(f"{path}: case {number} is not an object.")
    for key, kind in (("name", str), ("kind", str), ("family", str), ("files", dict)):
        if not isinstance(entry.get(key), kind):
            raise UserError(f"{path}: case {number} ({entry.get('name', 'unnamed')}) has no {key}.")
    family: str = entry["family"]
    return Case(
        folder=path.parent,
        name=entry["name"],
        kind=entry["kind"],
        family=_FAMILIES.get(family, family),
        config=entry.get("config") or {},
        tolerance=entry.get("tolerance") or {},
        files=entry["files"],
        extra={key: value for key, value in entry.items() if key not in Case.__dataclass_fields__},
    )


def _verify(path: Path, entry: dict[str, Any]) -> None:
    """Check that a file exists and is the one the manifest describes."""
    if not path.is_file():
        raise UserError(f"file {path} is missing; copy the golden folder again")
    size = path.stat().st_size
    if size != entry.get("bytes", size):
        raise UserError(f"{path.name} has {size} bytes, the manifest says {entry['bytes']}; copy the folder again")
    if "sha256" in entry:
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        if digest != entry["sha256"]:
            raise UserError(
                f"{path.name} has sha256 {digest[:12]}..., the manifest says {entry['sha256'][:12]}...; "
                "the file was changed or damaged, copy the folder again"
            )
