import pytest
import torch
from vision_programs import make_pictures


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """A folder of pictures, in train and test."""
    return make_pictures(tmp_path_factory.mktemp("pictures"))
