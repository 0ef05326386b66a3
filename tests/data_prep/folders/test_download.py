"""Downloads, with a hub behind huggingface_hub's own network door."""

import io
import json
import re
from pathlib import Path

import huggingface_hub
import pytest
import requests
from huggingface_hub import constants
from typer.testing import CliRunner

from cosmos_nemo.errors import UserError
from data_prep.__main__ import app
from data_prep.folders.download import ITEMS, explain, fetch, lookup

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(requests.adapters.BaseAdapter):
    """Serves repositories from memory; `status` and `error` make it fail."""

    def __init__(self, repos):
        super().__init__()
        self.repos = repos  # "models/org/name" -> file -> content
        self.status, self.headers, self.error = 200, {}, None
        self.fetched = []

    def send(self, request, **options):
        if self.error is not None:
            raise self.error
        response = requests.Response()
        response.request, response.url, response.status_code = request, request.url, self.status
        response.headers.update(self.headers)
        path = request.url.split("//", 1)[1].split("/", 1)[1].split("?")[0]
        response.raw = io.BytesIO(b"")
        if self.status == 200:
            self.answer(request, path, response)
        return response

    def answer(self, request, path, response):
        for repo, files in self.repos.items():
            kind, _, name = repo.partition("/")
            if path.startswith(f"api/{repo}"):
                siblings = [{"rfilename": file} for file in files]
                content = json.dumps({"id": name, "sha": COMMIT, "siblings": siblings, "private": False}).encode()
                break
            prefix = f"{'datasets/' if kind == 'datasets' else ''}{name}/resolve/{COMMIT}/"
            if path.startswith(prefix):
                file = path.removeprefix(prefix)
                content = files[file]
                response.headers.update({"ETag": f'"{len(content):040x}"', "X-Repo-Commit": COMMIT})
                if request.method == "GET":
                    self.fetched.append(file)
                break
        else:
            response.status_code, content = 404, b""
            response.headers["X-Error-Code"] = "RepoNotFound"
        response.headers["Content-Length"] = str(len(content))
        response.raw = io.BytesIO(content if request.method == "GET" else b"")

    def close(self):
        """Nothing is open."""


@pytest.fixture
def hub(monkeypatch):
    served = Hub(
        {
            "datasets/nvidia/Cosmos-NeMo-Assets": {
                "README.md": b"words",
                "nemo_diffusion_example_data/a.mp4": b"first video",
                "nemo_diffusion_example_data/b.mp4": b"video two",
            },
            "models/google-t5/t5-11b": {"config.json": b"{}", "pytorch_model.bin": b"weights", "tf_model.h5": b"copy"},
        }
    )

    def session():
        session = requests.Session()
        session.mount("https://", served)
        return session

    # The tests' environment is offline; the only way out is through the adapter.
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    huggingface_hub.configure_http_backend(session)
    yield served
    huggingface_hub.configure_http_backend()


def run(*arguments):
    return CliRunner().invoke(app, ["download", *map(str, arguments)], catch_exceptions=False).stdout


def test_without_names_the_list_is_printed_and_nothing_is_fetched(hub):
    listing = run()
    assert all(name in listing and item.repo in listing for name, item in ITEMS.items()) and not hub.fetched


def test_a_dataset_lies_where_the_guides_have_it(hub, tmp_path):
    output = run("cosmos-nemo-assets", "--output", tmp_path)
    folder = tmp_path / "datasets" / "cosmos_nemo_assets"
    assert f"nvidia/Cosmos-NeMo-Assets -> {folder}" in output
    assert (folder / "videos" / "a.mp4").read_bytes() == b"first video"
    assert sorted(hub.fetched) == ["nemo_diffusion_example_data/a.mp4", "nemo_diffusion_example_data/b.mp4"]


@pytest.mark.parametrize(
    ("name", "place"),
    [
        # Guides 001 and 002, --checkpoint_dir checkpoints
        ("predict1-7b-video2world", "checkpoints/Cosmos-Predict1-7B-Video2World"),
        ("predict1-4b", "checkpoints/Cosmos-Predict1-4B"),
        ("tokenize1-cv8x8x8", "checkpoints/Cosmos-Tokenize1-CV8x8x8-720p"),
        ("tokenize1-dv8x16x16", "checkpoints/Cosmos-Tokenize1-DV8x16x16-720p"),
        # Guide 004, hf download --local-dir
        ("predict2-14b-video2world", "checkpoints/nvidia/Cosmos-Predict2-14B-Video2World"),
        ("guardrail", "checkpoints/nvidia/Cosmos-1.0-Guardrail"),
        ("t5-11b", "checkpoints/google-t5/t5-11b"),
    ],
)
def test_a_checkpoint_lies_where_its_guide_has_it(name, place):
    assert ITEMS[name].place == place


def test_the_documents_name_the_places_that_are_written():
    root = Path(__file__).parents[3]
    text = "".join(file.read_text() for file in [*(root / "docs").glob("*.md"), root / "README.md"])
    named = re.findall(r"checkpoints/((?:nvidia/)?Cosmos-[\w.-]+|google-t5/[\w-]+)", text)
    assert len(named) > 5
    assert {f"checkpoints/{name}" for name in named} <= {item.place for item in ITEMS.values()}


def test_a_checkpoint_comes_without_its_copies_and_only_once(hub, tmp_path):
    fetch(lookup("t5-11b"), tmp_path, workers=2)
    folder = tmp_path / "checkpoints" / "google-t5" / "t5-11b"
    assert sorted(p.name for p in folder.iterdir() if p.is_file()) == ["config.json", "pytorch_model.bin"]
    hub.fetched.clear()
    fetch(lookup("google-t5/t5-11b"), tmp_path, workers=2)
    assert hub.fetched == []


@pytest.mark.parametrize(
    ("status", "headers", "error", "message"),
    [
        (
            403,
            {"X-Error-Code": "GatedRepo"},
            None,
            "has terms to accept: do so at https://huggingface.co/google-t5/t5-11b",
        ),
        (401, {}, None, "does not exist, or is not open to you: .*huggingface-cli login"),
        (404, {"X-Error-Code": "RepoNotFound"}, None, "does not exist, or is not open to you"),
        (404, {"X-Error-Code": "RevisionNotFound"}, None, "no such revision"),
        (403, {}, None, "refused the token for .* .status 403."),
        (500, {}, None, "answered with status 500"),
        (200, {}, requests.ConnectionError("no route"), "cannot be reached: check the network"),
        (200, {}, requests.Timeout("slow"), "cannot be reached"),
        (200, {}, OSError(28, "No space left on device"), "cannot be written: No space left on device"),
    ],
)
def test_every_failure_is_one_line_that_says_what_to_do(hub, tmp_path, status, headers, error, message):
    hub.status, hub.headers, hub.error = status, headers, error
    with pytest.raises(UserError, match=message) as caught:
        fetch(lookup("t5-11b"), tmp_path, workers=2)
    assert "\n" not in str(caught.value)


def test_offline_mode_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(UserError, match=r"cannot be reached \(HF_HUB_OFFLINE is set\)"):
        fetch(lookup("t5-11b"), tmp_path, workers=2)


def test_a_programming_error_is_not_explained_away():
    assert explain(TypeError("bug"), ITEMS["t5-11b"]) is None


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(UserError, match="did you mean tokenizer-cv8x8x8"):
        lookup("tokenizer-cv8x8")
