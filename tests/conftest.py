"""One thread: the models here are tiny, and threads that wait for each other make a busy machine slow."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
