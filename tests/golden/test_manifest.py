"""Reading golden folders, and what is said when one is damaged."""

import pytest

from cosmos_nemo.errors import UserError
from cosmos_nemo.golden.manifest import read_cases
from tests.golden.folders import lr_case, write_manifest


def test_a_parent_folder_yields_the_cases_of_every_folder_below_it(tmp_path):
    write_manifest(tmp_path / "b", lr_case(tmp_path / "b", "second"))
    write_manifest(tmp_path / "a" / "deep", lr_case(tmp_path / "a" / "deep", "first"))
    assert [case.name for case in read_cases([tmp_path])] == ["first", "second"]


def test_a_folder_given_twice_is_read_once(tmp_path):
    write_manifest(tmp_path, lr_case(tmp_path))
    assert len(read_cases([tmp_path, tmp_path / "manifest.json"])) == 1


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "not valid JSON"),
        ("[]", "format None"),
        ('{"format": 99, "cases": []}', "format 99"),
        ('{"format": 1}', "no list 'cases'"),
        ('{"format": 1, "cases": [{"name": "x", "kind": "loss", "family": "predict2"}]}', r"case 0 \(x\) has no files"),
    ],
)
def test_a_manifest_that_cannot_be_understood_is_an_error(tmp_path, text, says):
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(UserError, match=says):
        read_cases([tmp_path])


def test_a_folder_without_any_manifest_is_an_error(tmp_path):
    with pytest.raises(UserError, match=r"No manifest\.json"):
        read_cases([tmp_path])
    with pytest.raises(UserError, match="No golden folder"):
        read_cases([tmp_path / "absent"])


def damage_content(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda path: path.unlink(), "missing"),
        (damage_content, "sha256"),
        (lambda path: path.write_bytes(path.read_bytes() + b"0"), "bytes"),
    ],
)
def test_a_damaged_file_is_named(tmp_path, damage, says):
    write_manifest(tmp_path, lr_case(tmp_path))
    damage(tmp_path / "lr_decay.io.safetensors")
    with pytest.raises(UserError, match=rf"lr_decay\.io\.safetensors.*{says}"):
        read_cases([tmp_path])[0].load()


def test_a_file_without_a_recorded_checksum_is_read(tmp_path):
    case = lr_case(tmp_path)
    del case["files"]["io"]["sha256"]
    write_manifest(tmp_path, case, format=2)
    assert "down.steps" in read_cases([tmp_path])[0].load()


def test_an_absent_tensor_is_named_with_its_file(tmp_path):
    write_manifest(tmp_path, lr_case(tmp_path))
    with pytest.raises(UserError, match=r"lr_decay\.io\.safetensors has no tensor 'up\.steps'"):
        read_cases([tmp_path])[0].load()["up.steps"]
