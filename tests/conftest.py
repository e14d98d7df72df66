"""One thread: the models here are tiny, and threads that wait for each other make a busy machine slow."""

import os
import subprocess
import sys
import sysconfig
import venv

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def environment_with(tmp_path_factory):
    """Makes a virtual environment that sees this one's packages, with the given folders installed; its interpreter.

    Without the index: all that they need is here, and an installation must not change what these tests run on.
    """

    def make(*folders):
        home = tmp_path_factory.mktemp("venv")
        venv.create(home, with_pip=False)
        python = home / "bin" / "python"
        own = next(home.glob("lib/python*/site-packages"))
        others = dict.fromkeys(sysconfig.get_path(kind) for kind in ("purelib", "platlib"))
        own.joinpath("others.pth").write_text("".join(f"import site; site.addsitedir({path!r})\n" for path in others))
        options = ["--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check", "-q"]
        command = [sys.executable, "-m", "pip", "--python", str(python), "install", *options, *map(str, folders)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return python

    return make


@pytest.fixture
def run_in(tmp_path):
    """Runs `python -m ARGUMENTS` of an interpreter in a folder, and asserts the exit status."""

    def run(python, *arguments, cwd=tmp_path, status=0):
        command = [str(python), "-m", *map(str, arguments)]
        done = subprocess.run(
            command, cwd=cwd, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True
        )
        assert done.returncode == status, f"exit status {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    return run
