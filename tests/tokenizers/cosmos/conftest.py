import pytest

from cosmos_nemo.tokenizers.cosmos.jit import export_jit
from tests.tokenizers.cosmos.clips import random_network, tiny_config


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """Per kind ("cv", "dv"): a config, its network and the folder that it was exported to."""
    root = tmp_path_factory.mktemp("exported")
    result = {}
    for kind in ("cv", "dv"):
        config = tiny_config(discrete=kind == "dv")
        network = random_network(config)
        export_jit(network, config, root / kind)
        result[kind] = (config, network, root / kind)
    return result
