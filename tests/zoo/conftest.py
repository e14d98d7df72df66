"""The zoo: other people's models, through the whole tool. Probes that are long enough to judge run with -m zoo_long."""

import pytest


@pytest.fixture(autouse=True)
def one_thread():
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
