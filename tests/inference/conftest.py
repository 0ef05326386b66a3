import pytest

from tests.inference.tiny import write_everything


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """Folder with tiny runs, encoders and inputs; see `tests.inference.tiny.write_everything`."""
    folder = tmp_path_factory.mktemp("tiny")
    write_everything(folder)
    return folder
