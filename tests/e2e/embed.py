"""The embedding examples: programs that know only the installed headers and libfermata."""
import os
import pathlib
import re
import signal
import subprocess
import tempfile

from tap import run, test, contains

PROGRAMS = pathlib.Path(os.environ["FM_BUILD_ROOT"]) / "examples/embed"


def example(program, *arguments, code):
    done = subprocess.run([PROGRAMS / program, *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == code, f"exit code {done.returncode}, expected {code}: {done.stdout} {done.stderr}"
    return done.stdout, done.stderr


def read_page(*arguments, code):
    return example("read_page", *arguments, code=code)


def serve_in_process(*arguments, code):
    return example("serve_in_process", *arguments, code=code)


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


def repository(folder, name, text):
    path = pathlib.Path(folder) / name
    path.mkdir(parents=True)
    (path / "model.yaml").write_text(text)


@test
def a_server_in_the_program_answers_in_time():
    with tempfile.TemporaryDirectory() as folder:
        repository(folder, "work", "backend: emulated\nmax_batch_size: 8\nsettings: {inputs: 'x:FP32[-1,4]', alpha: '1ms', beta: '4ms'}\n")
        out, err = serve_in_process(folder, "work", "x", 4, 2, 0.5, code=0)
        good, late = map(int, re.fullmatch(r"(\d+) answers in time, \d+ a second; (\d+) not\n", out).groups())
        assert good > 50 and late == 0, out
        assert err == "", err
        # What cannot be in time is told so.
        out, _ = serve_in_process(folder, "work", "x", 4, 0.001, 0.2, code=0)
        contains(out, "0 answers in time")
        contains(serve_in_process(folder, "wrok", "x", 4, 1, 0.1, code=1)[1], "did you mean 'work'?")
        contains(serve_in_process(folder, "work", "y", 4, 1, 0.1, code=1)[1], "has no input 'y'")
        contains(serve_in_process("/nonexistent/models", "work", "x", 4, 1, 1, code=1)[1], "/nonexistent/models")
        contains(serve_in_process(code=2)[1], "usage:")


@test
def a_server_in_the_program_leaves_signals_alone():
    with tempfile.TemporaryDirectory() as folder:
        repository(folder, "work", "backend: identity\nmax_batch_size: 8\nsettings: {inputs: 'x:FP32[-1,4]'}\n")
        with subprocess.Popen([PROGRAMS / "serve_in_process", folder, "work", "x", "4", "1", "60"], stdout=subprocess.PIPE) as program:
            status = pathlib.Path(f"/proc/{program.pid}/task")
            while len(list(status.iterdir())) < 18:
                assert program.poll() is None
            program.send_signal(signal.SIGTERM)
            assert program.wait(timeout=20) == -signal.SIGTERM


run()
