"""The embedding example: a program that knows only the installed header and libfermata."""
import os
import pathlib
import subprocess
import tempfile

from tap import run, test, contains

PROGRAM = pathlib.Path(os.environ["FM_BUILD_ROOT"]) / "examples/embed/read_page"


def read_page(*arguments, code):
    done = subprocess.run([PROGRAM, *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code, f"exit code {done.returncode}, expected {code}: {done.stdout} {done.stderr}"
    return done.stdout, done.stderr


def model(folder):
    path = pathlib.Path(folder) / "echo"
    path.mkdir()
    (path / "model.yaml").write_text('backend: identity\nmax_batch_size: 0\nsettings:\n  inputs: "x:BYTES[1]"\n')
    return path


@test
def the_first_output_of_every_file_is_printed():
    with tempfile.TemporaryDirectory() as folder:
        page = pathlib.Path(folder) / "page"
        page.write_text("words of a page")
        out, _ = read_page(model(folder), page, page, code=0)
        assert out == "words of a page\nwords of a page\n", out


@test
def mistakes_are_told():
    with tempfile.TemporaryDirectory() as folder:
        contains(read_page(code=2)[1], "usage:")
        contains(read_page("/nonexistent/model", "/dev/null", code=1)[1], "/nonexistent/model")
        contains(read_page(model(folder), "/nonexistent/page", code=1)[1], "/nonexistent/page")


run()
