"""Manners of the command line: help, errors, exit codes, JSON, colours, completions, man pages, docs/cli.md."""
import json
import os
import pty
import shutil
import subprocess
import tempfile

from tap import FERMATA, ROOT, Skip, contains, fermata, fermata_json, run, test


def commands():
    """The names of all, those of groups too: "job verify"."""
    return fermata("internal-docs", "commands")[0].splitlines()


@test
def overview_lists_every_command():
    out, err = fermata("--help")
    assert err == ""
    for name in commands():
        group, _, nested = name.rpartition(" ")
        contains(fermata(group, "--help")[0] if group else out, "\n  " + nested + " ")
    assert "internal-docs" not in out
    assert fermata("help")[0] == out
    assert fermata("-h")[0] == out
    assert fermata(code=2)[0] == out


@test
def every_command_explains_itself_with_an_example():
    for name in commands():
        out, err = fermata(*name.split(), "--help")
        assert err == "", err
        contains(out, "Usage: fermata " + name, "Examples:", "$ ", "Exit codes:", "-h, --help")
        assert max(map(len, out.splitlines())) <= 80 or all(len(line) <= 80 or line.lstrip().startswith("$") for line in out.splitlines()), out
        assert fermata("help", *name.split())[0] == out
        assert fermata(*name.split(), "-h")[0] == out
        assert "\033" not in out


@test
def misspelt_commands_and_options_get_a_suggestion():
    contains(fermata("infre", code=2)[1], "unknown command 'infre'; did you mean 'infer'?", "fermata --help")
    contains(fermata("help", "profil", code=2)[1], "did you mean 'profile'?")
    contains(fermata("infer", "m", "--tpo", "3", code=2)[1], "unknown option '--tpo'; did you mean '--top'?", "fermata infer --help")
    contains(fermata("zzz", code=2)[1], "unknown command 'zzz'")
    contains(fermata("--verison", code=2)[1], "unknown option '--verison'")
    for name in commands():
        contains(fermata(*name.split(), "--no-such-option-here", code=2)[1], "unknown option '--no-such-option-here'")


@test
def wrong_values_are_usage_errors():
    contains(fermata("infer", code=2)[1], "MODEL is missing")
    contains(fermata("infer", "m", code=3)[1], "'m' does not exist")
    contains(fermata("infer", "m", "x", "--top", "many", code=2)[1], "--top: 'many' is not a whole number from 0 to 1000")
    contains(fermata("infer", "m", "x", "--top", "1", "-k", "2", code=2)[1], "given twice")
    contains(fermata("profile", "m", "--batch", "0", code=2)[1], "--batch: '0' is not a comma-separated list")
    contains(fermata("profile", "m", "n", code=2)[1], "'n' is one argument too many")
    contains(fermata("profile", "m", "--duration", code=2)[1], "--duration needs a value: a duration such as 250ms")


@test
def results_go_to_stdout_and_errors_to_stderr():
    out, err = fermata("infer", "/nonexistent/model.onnx", "x", code=3)
    assert out == ""
    contains(err, "fermata infer: ", "/nonexistent/model.onnx")
    assert err.count("\n") == 1


@test
def errors_are_json_when_asked():
    for arguments, code in ((("infer", "/nonexistent/model.onnx", "x", "--json"), 3), (("infer", "--json", "--tpo"), 2), (("version", "x", "--json"), 2)):
        out, err = fermata(*arguments, code=code)
        assert out == "" and err.count("\n") == 1
        error = json.loads(err)["error"]
        assert error["exit_code"] == code and error["command"] == arguments[0] and error["message"] and error["code"]


@test
def version_tells_how_it_was_built():
    out, _ = fermata("--version")
    contains(out, "fermata ", "compiler", "backends", "onnxruntime", "duckdb")
    assert fermata("version")[0] == out
    assert fermata("-V")[0] == out
    facts = fermata_json("--version", "--json")
    assert facts == fermata_json("version", "--json")
    for key in ("version", "commit", "compiler", "build_type", "sanitizers", "backends", "libuv"):
        assert key in facts, key
    usable = {backend["name"]: backend["usable"] for backend in facts["backends"]}
    assert usable["identity"] and usable["emulated"], facts["backends"]


@test
def a_full_disk_is_noticed():
    if not os.path.exists("/dev/full"):
        raise Skip("no /dev/full here")
    with open("/dev/full", "wb") as full:
        done = subprocess.run([FERMATA, "help"], stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 1
    contains(done.stderr.decode(), "cannot write to standard output: No space left")


@test
def a_reader_that_leaves_is_no_news():
    for arguments in (["help"], ["help", "infer"], ["version", "--json"], ["internal-docs", "markdown"]):
        reading, writing = os.pipe()
        os.close(reading)
        done = subprocess.run([FERMATA, *arguments], stdout=writing, stderr=subprocess.PIPE)
        os.close(writing)
        assert (done.returncode, done.stderr) == (141, b""), (arguments, done)


def on_terminal(arguments, env):
    """What the program prints when all its descriptors are a terminal."""
    master, slave = pty.openpty()
    process = subprocess.Popen([FERMATA, *arguments], stdin=slave, stdout=slave, stderr=slave, env={**os.environ, **env})
    os.close(slave)
    data = b""
    while True:
        try:
            chunk = os.read(master, 65536)
        except OSError:
            break
        if not chunk:
            break
        data += chunk
    process.wait(timeout=30)
    os.close(master)
    return data.decode()


@test
def colours_on_terminals_only():
    plain = {"TERM": "xterm", "NO_COLOR": ""}
    assert "\033[1m" in on_terminal(["help"], plain)
    assert "\033[31m" in on_terminal(["infer", "/nonexistent", "x"], plain)
    assert "\033" not in on_terminal(["help"], {"TERM": "xterm", "NO_COLOR": "1"})
    assert "\033" not in on_terminal(["infer", "/nonexistent", "x"], {"TERM": "xterm", "NO_COLOR": "1"})
    assert "\033" not in on_terminal(["help"], {"TERM": "dumb", "NO_COLOR": ""})
    assert "\033" not in fermata("help")[0]


@test
def completions_parse():
    with tempfile.TemporaryDirectory() as folder:
        checked = 0
        for shell in ("bash", "zsh", "fish"):
            text, _ = fermata("internal-docs", shell)
            for name in commands():
                contains(text, name.split()[-1])
            path = os.path.join(folder, shell)
            with open(path, "w") as file:
                file.write(text)
            if shutil.which(shell):
                done = subprocess.run([shell, "-n", path], capture_output=True, text=True)
                assert done.returncode == 0 and done.stderr == "", done.stderr
                checked += 1
        if checked == 0:
            raise Skip("no shell to check with")


@test
def bash_completes():
    if not shutil.which("bash"):
        raise Skip("no bash here")
    script = fermata("internal-docs", "bash")[0]

    def complete(*words):
        call = 'COMP_WORDS=(%s); COMP_CWORD=%d; _fermata; printf "%%s\\n" "${COMPREPLY[@]}"' % (" ".join("'%s'" % w for w in words), len(words) - 1)
        done = subprocess.run(["bash", "-c", script + call], capture_output=True, text=True)
        assert done.returncode == 0 and done.stderr == "", done.stderr
        return done.stdout.split()

    assert complete("fermata", "inf") == ["infer"]
    assert "--top" in complete("fermata", "infer", "--t")
    assert complete("fermata", "help", "prof") == ["profile"]
    assert complete("fermata", "infer", "--top", "") == []
    assert complete("fermata", "jo") == ["job"]
    assert complete("fermata", "job", "ver") == ["verify"]
    assert "--json" in complete("fermata", "job", "verify", "--j")
    assert complete("fermata", "job", "dead-letters", "--limit", "") == []


@test
def man_pages_have_no_warnings():
    pages = [fermata("internal-docs", "man")[0]] + [fermata("internal-docs", "man", name)[0] for name in commands()]
    for page in pages:
        contains(page, ".TH ", ".SH NAME", ".SH SYNOPSIS", ".SH \"EXIT STATUS\"")
    if not shutil.which("groff"):
        raise Skip("no groff here; pages were made, not checked")
    for page in pages:
        done = subprocess.run(["groff", "-man", "-Tutf8", "-ww", "-z"], input=page, capture_output=True, text=True)
        assert done.returncode == 0 and done.stderr == "", done.stderr
    contains(fermata("internal-docs", "man", "nothing", code=2)[1], "it must exist")
    contains(fermata("internal-docs", "pdf", code=2)[1], "unknown format 'pdf'")


@test
def the_document_is_up_to_date():
    with open(os.path.join(ROOT, "docs/cli.md")) as file:
        written = file.read()
    made, _ = fermata("internal-docs", "markdown")
    assert written == made, "run: fermata internal-docs markdown > docs/cli.md"


run()
