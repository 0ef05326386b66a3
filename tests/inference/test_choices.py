"""Each family takes its own options and refuses those of another; the prompt may come from a file."""

import pytest

from cosmos_nemo.errors import UserError
from cosmos_nemo.families import FAMILIES
from cosmos_nemo.inference.choices import OPTIONS, make_options


@pytest.fixture
def given(tmp_path):
    (tmp_path / "clip.mp4").touch()
    return {"checkpoint": tmp_path, "output": tmp_path / "x.mp4", "input": (tmp_path / "clip.mp4",)}


def test_families_are_called_by_their_names():
    assert set(OPTIONS) <= {family.name for family in FAMILIES}


@pytest.mark.parametrize(
    ("family", "foreign", "message"),
    [
        ("predict2", {"top_p": 0.5}, "--top-p does not apply to predict2 models; omit it"),
        ("autoregressive", {"num_steps": 3}, "--num-steps does not apply to autoregressive models; omit it"),
    ],
)
def test_a_choice_of_another_family_is_refused_by_name(given, family, foreign, message):
    make_options(family, prompt="x", **given)
    with pytest.raises(UserError, match=message):
        make_options(family, prompt="x", **foreign, **given)


def test_what_is_none_is_left_to_the_family(given):
    options = make_options("autoregressive", top_p=None, num_steps=None, seed=None, **given)
    assert (options.top_p, options.seed, options.input) == (0.8, 0, given["input"])


def test_a_diffusion_model_takes_one_input_and_needs_a_prompt(given):
    with pytest.raises(UserError, match="takes one --input at a time"):
        make_options("predict2", prompt="x", **given | {"input": given["input"] * 2})
    with pytest.raises(UserError, match="The prompt is missing; say what should be seen with --prompt or"):
        make_options("predict2", **given)


@pytest.mark.parametrize("family", OPTIONS)
def test_the_prompt_may_come_from_a_file(given, tmp_path, family):
    file = tmp_path / "prompt.txt"
    file.write_bytes(b"\xef\xbb\xbfA red ball falls.\n")
    assert make_options(family, prompt_file=file, **given).prompt == "A red ball falls."


@pytest.mark.parametrize("family", OPTIONS)
def test_a_file_given_as_prompt_is_not_taken_for_words(given, tmp_path, family):
    file = tmp_path / "prompt.txt"
    file.write_text("A red ball falls.")
    with pytest.raises(UserError, match=rf"--prompt {file} is a file; give --prompt-file {file} to use its text"):
        make_options(family, prompt=str(file), **given)
    assert make_options(family, prompt="word " * 1000, **given).prompt.startswith("word"), "no file has such a name"


@pytest.mark.parametrize(
    ("content", "more", "message"),
    [
        (None, {}, r"--prompt-file .*prompt.txt does not exist"),
        (b" \n", {}, r"--prompt-file .*prompt.txt is empty; write the prompt into it"),
        (b"\xff\xfe", {}, r"--prompt-file .*prompt.txt is not a text file in UTF-8"),
        (b"words", {"prompt": "others"}, "--prompt and --prompt-file are both given; omit one of them"),
    ],
)
def test_an_unusable_prompt_file_is_explained(given, tmp_path, content, more, message):
    file = tmp_path / "prompt.txt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UserError, match=message):
        make_options("predict2", prompt_file=file, **more, **given)
