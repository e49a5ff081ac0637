"""Every wrong call of every command: its exit code (2 the call, 3 a file) and words of its one message, as docs/cli.md promises."""
import os
import struct
import subprocess
import tempfile
import zlib

from tap import FERMATA, contains, fermata, run, test

FOLDER = tempfile.TemporaryDirectory(prefix="fermata-exit-")


def path(name):
    return os.path.join(FOLDER.name, name)


def model(name, settings):
    os.makedirs(path(name + "/1"))
    with open(path(name + "/model.yaml"), "w") as file:
        file.write("backend: identity\nsettings: %s\n" % settings)


def chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


model("echo", "{inputs: 'x:FP32[-1,4]', outputs: 'y'}")
model("open", "{inputs: 'x:FP32[-1,-1]', outputs: 'y'}")
model("pair", "{inputs: 'first:FP32[-1,2], second:FP32[-1,2]', outputs: 'one, two'}")
model("text", "{inputs: 'x:BYTES[-1]', outputs: 'y'}")
model("image", "{inputs: 'x:FP32[-1,3,2,4]', outputs: 'y'}")
for name, data in (("raw", bytes(16)), ("pairs", bytes(8)), ("frame", bytes(96)),
                   ("photo.png", b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 2, 8, 2, 0, 0, 0)) +
                    chunk(b"IDAT", zlib.compress(bytes(26))) + chunk(b"IEND", b""))):
    with open(path(name), "wb") as file:
        file.write(data)

USAGE, INPUT = 2, 3
TABLE = [
    # the program itself
    (["zzz"], USAGE, "unknown command 'zzz'"),
    (["infre"], USAGE, "did you mean 'infer'?"),
    (["--verison"], USAGE, "unknown option '--verison'; did you mean '--version'?"),
    (["--frobnicate"], USAGE, "options stand behind their command"),
    # help, version, internal-docs
    (["help", "nosuch"], USAGE, "there is no command 'nosuch'; 'fermata help' lists all"),
    (["help", "infr"], USAGE, "did you mean 'infer'? 'fermata help' lists"),
    (["help", "infer", "profile"], USAGE, "one argument too many"),
    (["version", "x"], USAGE, "one argument too many"),
    (["version", "--jsn"], USAGE, "did you mean '--json'?"),
    (["internal-docs"], USAGE, "FORMAT is missing"),
    (["internal-docs", "nosuch"], USAGE, "unknown format 'nosuch'"),
    (["internal-docs", "man", "nosuch"], USAGE, "nosuch"),
    # infer: what is wrong before a model is opened
    (["infer"], USAGE, "MODEL is missing"),
    (["infer", "nosuch", "raw", "--size", "0x0"], USAGE, "--size: '0x0' is not WIDTHxHEIGHT"),
    (["infer", "nosuch", "raw", "--size", "4"], USAGE, "--size: '4' is not WIDTHxHEIGHT"),
    (["infer", "nosuch", "raw", "--mean", "1,2"], USAGE, "--mean: '1,2' is not one number or three"),
    (["infer", "nosuch", "raw", "--std", "0"], USAGE, "--std: '0' would divide by zero"),
    (["infer", "nosuch", "raw", "--std", "1,0,1"], USAGE, "divide by zero"),
    (["infer", "nosuch", "raw", "--scale", "0"], USAGE, "--scale: 0 would make every pixel the same"),
    (["infer", "nosuch", "raw", "--scale", "nan"], USAGE, "--scale"),
    (["infer", "nosuch", "raw", "-s", "x"], USAGE, "--shape: 'x' is not a size"),
    (["infer", "nosuch", "raw", "-o", "="], USAGE, "--output: '=' is not FILE.npy or NAME=FILE.npy"),
    (["infer", "nosuch", "raw", "-o", "y="], USAGE, "is not FILE.npy or NAME=FILE.npy"),
    (["infer", "nosuch", "raw", "--input-limit", "many"], USAGE, "--input-limit: 'many' is not a size"),
    (["infer", "nosuch", "raw", "--top", "-1"], USAGE, "--top"),
    # infer: the model, before anything is said of inputs
    (["infer", "nosuch"], INPUT, "'nosuch' does not exist"),
    (["infer", "nosuch", "absent"], INPUT, "'nosuch' does not exist"),
    (["infer", "echo", "raw", "-m", "ecko"], INPUT, "did you mean 'echo'?"),
    (["infer", "echo"], USAGE, "no input was given"),
    # infer: what means nothing for this model
    (["infer", "echo", "raw", "-o", "nosuch=x.npy"], USAGE, "'echo' has no output 'nosuch'; it has y"),
    (["infer", "pair", "first=pairs", "second=pairs", "-o", "tow=x.npy"], USAGE, "did you mean 'two'?"),
    (["infer", "pair", "first=pairs", "second=pairs", "-o", "x.npy"], USAGE, "there are 2 outputs; write NAME=FILE.npy"),
    (["infer", "pair", "first=pairs", "second=pairs", "-o", "one=x.npy", "-o", "two=x.npy"], USAGE, "to be written twice"),
    (["infer", "echo", "raw", "-s", "nosuch=1,4"], USAGE, "'echo' has no input 'nosuch'; it has x"),
    (["infer", "text", "raw", "-s", "1"], USAGE, "--shape '1' is for raw numbers, and no input took it"),
    (["infer", "echo", "raw", "--size", "4x2"], USAGE, "--size is for models with an image-like input"),
    (["infer", "text", "photo.png", "--bgr"], USAGE, "--bgr is for models with an image-like input"),
    (["infer", "image", "frame", "--mean", "1"], USAGE, "--mean is for images (JPEG, PNG), and no input is one"),
    (["infer", "image", "photo.png", "--size", "8x8"], USAGE, "have to be 4x2, not 8x8"),
    (["infer", "pair", "first=pairs"], USAGE, "input 'second' is missing: add second=FILE"),
    (["infer", "pair", "first=pairs", "first=pairs", "second=pairs"], USAGE, "input 'first' was given twice"),
    (["infer", "pair", "first=pairs", "pairs"], USAGE, "has no input's name in front"),
    (["infer", "pair", "frist=pairs", "second=pairs"], USAGE, "'frist' is no input of 'pair' (first, second)"),
    (["infer", "echo", "-", "-"], USAGE, "standard input ('-') was given twice"),
    # infer: files
    (["infer", "pair", "pairs"], INPUT, "write NAME=FILE for each"),
    (["infer", "echo", "absent"], INPUT, "cannot open 'absent'"),
    (["infer", "echo", "pairs"], INPUT, "8 bytes"),
    (["infer", "echo", "raw", "--input-limit", "15"], INPUT, "--input-limit raises it"),
    (["infer", "echo", "raw", "-o", "absent/x.npy"], INPUT, "there is no directory 'absent'; create it first"),
    (["infer", "echo", "raw", "-o", "echo"], INPUT, "cannot write 'echo': it is a directory"),
    (["infer", "echo", "raw", "--labels", "absent"], INPUT, "--labels"),
    # profile
    (["profile"], USAGE, "MODEL is missing"),
    (["profile", "echo", "echo"], USAGE, "one argument too many"),
    (["profile", "nosuch", "--set", "a"], USAGE, "--set: 'a' is not KEY=VALUE"),
    (["profile", "nosuch", "--vary", "x"], USAGE, "--vary: 'x' is not KEY=VALUE"),
    (["profile", "nosuch", "-s", "x"], USAGE, "--input-shape: 'x' is not a size"),
    (["profile", "nosuch", "-o", "x.svg"], USAGE, "the plot lies beside it"),
    (["profile", "nosuch", "--batch", "0"], USAGE, "--batch: '0'"),
    (["profile", "nosuch"], INPUT, "'nosuch' does not exist"),
    (["profile", "echo", "-s", "nosuch=4"], USAGE, "--input-shape names 'nosuch', which is not an input of the model"),
    (["profile", "echo", "-s", "x=5"], USAGE, "size 0 of input 'x' is fixed at 4, not 5"),
    (["profile", "echo", "-s", "x=1,4"], USAGE, "give 1 sizes (without the batch), not 2"),
    (["profile", "open"], USAGE, "say which sizes to measure with, for example --input-shape x=64"),
    (["profile", "echo", "-o", "absent/x.yaml"], INPUT, "there is no directory 'absent'"),
    (["profile", "echo", "-o", "echo"], INPUT, "it is a directory"),
    # batch, serve
    (["batch"], USAGE, "JOB is missing"),
    (["batch", "absent.yaml"], INPUT, "absent.yaml"),
    (["batch", "absent.yaml", "--limit", "a"], USAGE, "--limit: 'a' is not a whole number"),
    (["batch", "absent.yaml", "--resmue"], USAGE, "did you mean '--resume'?"),
    (["batch", "absent.yaml", "--worker-memory", "much"], USAGE, "--worker-memory: 'much'"),
    (["batch", "absent.yaml", "--worker-memory", "1MiB"], USAGE, "--worker-memory: 64MiB or more"),
    (["batch", "absent.yaml", "--worker-memory", "0"], INPUT, "absent.yaml"),
    (["batch", "absent.yaml", "--listen", "nowhere"], USAGE, "--listen: 'nowhere' is not HOST:PORT"),
    (["batch", "absent.yaml", "--listen", "localhost:0"], USAGE, "--listen needs --token-file or --tls-client-ca"),
    (["batch", "absent.yaml", "--retry-dead-letters", "absent"], INPUT, "absent.yaml"),
    (["batch", "absent.yaml", "--retry-dead-letters", "absent", "--limit", "3"], USAGE, "give it without --limit"),
    (["batch", "absent.yaml", "--retry-dead-letters"], USAGE, "--retry-dead-letters"),
    (["batch", "absent.yaml", "--retry-dead-letters", "absent", "--preview", "3"], USAGE, "give them without --retry-dead-letters"),
    (["batch", "absent.yaml", "--stdout", "--preview", "3"], USAGE, "leave out --json, --dry-run and --preview"),
    (["batch", "absent.yaml", "--stdout", "--dry-run"], USAGE, "leave out --json, --dry-run and --preview"),
    (["batch", "absent.yaml", "--preview", "0"], USAGE, "--preview"),
    (["batch", "absent.yaml", "--preview", "1"], INPUT, "absent.yaml"),
    (["batch", "absent.yaml", "--preview", "1", "--resume"], USAGE, "--preview writes nothing"),
    (["batch", "absent.yaml", "--sample", "5"], USAGE, "go with --dry-run"),
    (["batch", "absent.yaml", "--dry-run", "--sample", "5"], INPUT, "absent.yaml"),
    (["batch", "absent.yaml", "--workers", "many"], USAGE, "--workers: 'many' is neither how many"),
    (["batch", "absent.yaml", "--workers", "5..4"], USAGE, "--workers: '5..4' is neither how many"),
    (["batch", "absent.yaml", "--workers", "0..4"], USAGE, "--workers: from 1 on"),
    (["batch", "absent.yaml", "--workers", "0"], USAGE, "--workers 0 leaves nobody to work"),
    (["batch", "absent.yaml", "--workers", "1..4"], INPUT, "absent.yaml"),
    (["batch", "absent.yaml", "--finish-by", "soon"], USAGE, "--finish-by: 'soon' is no time to finish by"),
    (["batch", "absent.yaml", "--finish-by", "2h"], INPUT, "absent.yaml"),
    (["batch", "absent.yaml", "--page", "nowhere"], USAGE, "--page: 'nowhere' is not HOST:PORT"),
    # job
    (["job"], USAGE, "COMMAND is missing"),
    (["job", "nosuch"], USAGE, "unknown command 'job nosuch'"),
    (["job", "verfy"], USAGE, "did you mean 'job verify'?"),
    (["job", "--", "verify"], USAGE, "'verify' has to stand right behind 'fermata job'"),
    (["help", "job", "verfy"], USAGE, "did you mean 'verify'?"),
    (["help", "nosuch", "verify"], USAGE, "one argument too many"),
    (["job list"], USAGE, "unknown command"),
    (["job", "list", "absent"], INPUT, "there is no directory 'absent'"),
    (["job", "show"], USAGE, "DIR is missing"),
    (["job", "show", "absent"], INPUT, "there is no job in 'absent'"),
    (["job", "verify"], USAGE, "DIR is missing"),
    (["job", "verify", "absent"], INPUT, "there is no directory 'absent'"),
    (["job", "verify", "echo"], INPUT, "it is not the output of a job"),
    (["job", "dead-letters"], USAGE, "DIR is missing"),
    (["job", "dead-letters", "echo"], INPUT, "there is no job in 'echo'"),
    (["job", "dead-letters", "echo", "--limit", "0"], USAGE, "--limit"),
    (["job", "report"], USAGE, "DIR is missing"),
    (["job", "report", "absent"], INPUT, "there is no job in 'absent'"),
    (["job", "report", "echo", "-o", "absent/x"], INPUT, "there is no directory 'absent'"),
    (["job", "report", "echo", "--price-per-hour", "-1"], USAGE, "--price-per-hour"),
    (["job", "pause"], USAGE, "DIR is missing"),
    (["job", "pause", "absent"], INPUT, "there is no job in 'absent'"),
    (["job", "resume"], USAGE, "DIR is missing"),
    (["job", "resume", "echo"], INPUT, "there is no job in 'echo'"),
    (["job", "cancel"], USAGE, "DIR is missing"),
    (["job", "cancel", "raw"], INPUT, "must be a directory"),
    # worker
    (["worker"], USAGE, "--join is missing"),
    (["worker", "--join", "nowhere"], INPUT, "'nowhere' is no URL"),
    (["worker", "--join", "nowhere", "--sharers", "0"], USAGE, "--sharers"),
    (["worker", "--join", "nowhere", "--sharers", "2"], INPUT, "'nowhere' is no URL"),
    (["worker", "--join", "unix:absent", "--patience", "0.2s"], 6, "absent"),
    (["worker", "--join", "unix:absent", "--token-file", "absent"], INPUT, "cannot open 'absent'"),
    (["worker", "--join", "unix:absent", "--tls-cert", "absent"], USAGE, "--tls-cert and --tls-key go together"),
    (["worker", "--join", "unix:absent", "--accelerators", "warp:1"], USAGE, "'warp' is no kind of accelerators"),
    (["serve"], USAGE, "PATH is missing"),
    (["serve", "absent"], INPUT, "'absent' does not exist"),
    (["serve", "absent", "--nosuch"], USAGE, "unknown option '--nosuch'"),
    # bench
    (["bench"], USAGE, "COMMAND is missing"),
    (["bench", "nosuch"], USAGE, "unknown command 'bench nosuch'"),
    (["bench", "shed"], USAGE, "did you mean 'bench sched'?"),
    (["bench", "--", "sched"], USAGE, "'sched' has to stand right behind 'fermata bench'"),
    (["bench", "sched", "x"], USAGE, "one argument too many"),
    (["bench", "sched", "--rate", "5", "--max"], USAGE, "give --rate or --max, not both"),
    (["bench", "sched", "--beta", "5ms"], USAGE, "--beta needs --alpha"),
    (["bench", "sched", "--alpha", "0"], USAGE, "--alpha must be above 0"),
    (["bench", "sched", "--seconds", "1ms"], USAGE, "--seconds must be 100ms to 1h"),
    (["bench", "sched", "--slo", "1ms", "--alpha", "2ms"], USAGE, "--slo must be above"),
    (["bench", "sched", "--slo", "0"], USAGE, "--slo must be above 0"),
    (["bench", "sched", "--slo", "1ns"], INPUT, "is too short: a batch of one request takes"),
    (["bench", "sched", "--alpha", "1h"], USAGE, "--alpha and --beta must be 1m at most"),
    (["bench", "sched", "--policy", "nexus"], USAGE, "--policy"),
    (["bench", "sched", "--models", "0"], USAGE, "--models"),
    (["bench", "queue", "x"], USAGE, "one argument too many"),
    (["bench", "queue", "--mix", "pareto"], USAGE, "--mix"),
    (["bench", "queue", "--arrivals", "burst"], USAGE, "--arrivals"),
    (["bench", "queue", "--arrivals", "poisson", "--load", "0"], USAGE, "--load"),
    (["bench", "queue", "--load", "0.5"], USAGE, "--load needs --arrivals poisson"),
    (["bench", "queue", "--tasks", "0"], USAGE, "--tasks"),
    (["bench", "queue", "--tasks", "16385"], USAGE, "--tasks"),
    (["bench", "queue", "--tasks", "16384", "--seeds", "1000"], USAGE, "--tasks times --seeds must be 4000000 at most"),
    (["bench", "queue", "--seeds", "1001"], USAGE, "--seeds"),
    (["bench", "queue", "--followers", "257"], USAGE, "--followers"),
    (["bench", "queue", "--sigma", "4"], USAGE, "--sigma"),
    (["bench", "queue", "--ageing", "99"], USAGE, "--ageing"),
    (["bench", "queue", "--trace", "absent", "--mix", "uniform"], USAGE, "--mix is for traces that are made"),
    (["bench", "queue", "--trace", "absent", "--print-trace"], USAGE, "--print-trace is for traces that are made"),
    (["bench", "queue", "--trace", "absent"], INPUT, "absent"),
    (["bench", "queue", "--trace", "raw"], INPUT, "raw"),
    (["bench", "model"], USAGE, "FAMILY is missing"),
    (["bench", "model", "cmn"], USAGE, "there is no family 'cmn'; did you mean 'cnn'?"),
    (["bench", "model", "resnet50"], USAGE, "there are: mlp, cnn, rnn, lstm, transformer, dlrm"),
    (["bench", "model", "mlp", "--heads", "2"], USAGE, "--heads: a model of the family mlp has none; it has layers, hidden"),
    (["bench", "model", "mlp", "--layers", "0"], USAGE, "whole numbers of at least 1"),
    (["bench", "model", "mlp", "--layers", "513"], USAGE, "--layers: 513 is not from 1 to 512"),
    (["bench", "model", "mlp", "--hidden", "wide"], USAGE, "--hidden: 'wide' is not a comma-separated list"),
    (["bench", "model", "cnn", "--kernel", "2"], USAGE, "kernel: 2 is even"),
    (["bench", "model", "transformer", "--heads", "3"], USAGE, "heads: hidden, 256, is not a multiple of 3"),
    (["bench", "model", "mlp", "--hidden", "65536", "--layers", "5"], USAGE, "an ONNX file ends at 2 GiB: give it fewer or smaller layers"),
    (["bench", "model", "mlp", "--layers", "2,2"], USAGE, "--layers: 2 is there twice"),
    (["bench", "model", "mlp", "--layers", "1,2", "-o", "x.onnx"], USAGE, "is a single file, and these are 2 models"),
    (["bench", "model", "cnn", "--kernel", "3,4"], USAGE, "cnn-kernel4: kernel: 4 is even"),
    (["bench", "model", "mlp", "--layers", "4,8", "--hidden", "40000"], USAGE, "mlp-layers4: this mlp would have"),
    (["bench", "model", "mlp", "--layers", ",".join(map(str, range(1, 41))), "--hidden", ",".join(map(str, range(1, 41)))], USAGE,
     "1600 models are too many"),
    (["bench", "model", "mlp", "--batch", "0"], USAGE, "--batch"),
    (["bench", "model", "mlp", "--force"], USAGE, "--force replaces what lies at --output, which is not given"),
    (["bench", "model", "mlp", "--max-batch", "4"], USAGE, "--max-batch is for the model.yaml of a directory"),
    (["bench", "model", "mlp", "--max-batch", "4", "-o", "x.onnx"], USAGE, "--max-batch is for the model.yaml of a directory"),
    (["bench", "model", "mlp", "-o", "echo"], INPUT, "'echo/model.yaml' is there already, and nothing was written"),
    (["bench", "model", "mlp", "-o", "raw"], INPUT, "'raw' is there and is no directory"),
    (["bench", "model", "mlp", "-o", "absent/x.onnx"], INPUT, "cannot write 'absent/x.onnx'"),
    (["bench", "model", "mlp", "-o", ""], USAGE, "-o is empty: give it a path"),
    # sim
    (["sim"], USAGE, "SCENARIO is missing"),
    (["sim", "x.yaml", "--replay", "x.fmrec"], USAGE, "give SCENARIO or --replay, not both"),
    (["sim", "x.yaml", "--what-if"], USAGE, "--what-if is for --replay"),
    (["sim", "x.yaml", "--record", "x.fmrec", "--find-goodput"], USAGE, "--record records one run"),
    (["sim", "--replay", "x.fmrec", "--policy", "eager"], USAGE, "which --policy cannot change; add --what-if"),
    (["sim", "--replay", "nosuch.fmrec"], INPUT, "cannot open 'nosuch.fmrec'"),
    (["sim", "--replay", "raw"], INPUT, "'raw': this is not a recording"),
    (["sim", "nosuch.yaml"], INPUT, "cannot open 'nosuch.yaml'"),
    (["sim", "x.yaml", "--policy", "eagr"], USAGE, "did you mean 'eager'?"),
    (["sim", "x.yaml", "--compare", "eager,foo"], USAGE, "there is no policy 'foo'"),
    (["sim", "x.yaml", "--seeds", "x"], USAGE, "--seeds: 'x' is not"),
    (["sim", "x.yaml", "--scale", "0"], USAGE, "--scale: '0' is not a number"),
    (["sim", "x.yaml", "--bad-rate", "2"], USAGE, "--bad-rate"),
]


@test
def every_wrong_call_has_its_exit_code_and_one_message():
    wrong = []
    for arguments, code, words in TABLE:
        try:
            out, err = fermata(*arguments, code=code, cwd=FOLDER.name)
            assert out == "", "standard output: %r" % out
            contains(err, words)
            assert err.count("\n") == (2 if code == USAGE else 1), "more than one message: %r" % err
        except AssertionError as error:
            wrong.append("%s: %s" % (" ".join(arguments), error))
    assert not wrong, "\n\n".join(wrong)


@test
def every_command_is_in_the_table():
    seen = {arguments[0] for arguments, _, _ in TABLE} | {" ".join(arguments[:2]) for arguments, _, _ in TABLE}
    missing = set(fermata("internal-docs", "commands")[0].splitlines()) - seen
    assert not missing, missing


@test
def a_refused_call_leaves_no_file():
    before = sorted(os.listdir(FOLDER.name))
    with open(path("kept.npy"), "w") as file:
        file.write("kept")
    fermata("infer", "echo", "pairs", "-o", "kept.npy", "-o", "y=new.npy", code=3, cwd=FOLDER.name)
    fermata("profile", "echo", "-s", "nosuch=4", "-o", "kept.npy", code=2, cwd=FOLDER.name)
    contains(fermata("infer", "echo", "kept.npy", "-o", "./kept.npy", code=2, cwd=FOLDER.name)[1], "--output would overwrite INPUT")
    contains(fermata("profile", "kept.npy", "-o", "./kept.npy", code=2, cwd=FOLDER.name)[1], "--output would overwrite MODEL")
    with open(path("kept.npy")) as file:
        assert file.read() == "kept"
    os.remove(path("kept.npy"))
    assert sorted(os.listdir(FOLDER.name)) == before


@test
def endless_standard_input_ends_at_the_limit():
    with open("/dev/zero", "rb") as zeros:
        done = subprocess.run([FERMATA, "infer", path("echo"), "-", "--input-limit", "1MiB"], stdin=zeros, capture_output=True, timeout=60)
    assert done.returncode == 3, done
    contains(done.stderr.decode(), "larger than the limit of 1048576 bytes; --input-limit raises it")


run()
