"""The zoo: other people's models, through the whole tool. Probes that are long enough to judge run with -m zoo_long."""

import pytest


def pytest_configure(config):
    config.addinivalue_line(
        "markers", "zoo_long: a probe of the zoo that is long enough to judge; run with -m zoo_long"
    )


def pytest_collection_modifyitems(config, items):
    if "zoo_long" not in config.getoption("markexpr"):
        long = [item for item in items if item.get_closest_marker("zoo_long")]
        items[:] = [item for item in items if item not in long]
        config.hook.pytest_deselected(items=long)


@pytest.fixture(autouse=True)
def one_thread():
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
