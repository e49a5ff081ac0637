"""The example programs that NVIDIA publishes with its client, as they are, against `fermata serve`.

    examples.py DIRECTORY RESULTS.json      DIRECTORY: src/python/examples of a checkout of triton-inference-server/client

Owns: which of them are run, with which addresses. They bring their own checks: exit code 0, and the word PASS from those that have it,
mean that the answers were right. Those that the directory does not have are left out. Not run: those for CUDA memory, whose client
needs a GPU before it says anything to the server, and those that read images or talk to a language model.
"""
import os
import re
import socket
import subprocess
import sys
from importlib.metadata import version

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, HERE + "/../../e2e"]

import models
import results
import serving

AREA = "published examples"
HTTP, GRPC, BOTH = ["http"], ["grpc"], ["http", "grpc"]
PROGRAMS = [("simple_%s_infer_client.py", BOTH), ("simple_%s_async_infer_client.py", BOTH), ("simple_%s_string_infer_client.py", BOTH),
            ("simple_%s_shm_client.py", BOTH), ("simple_%s_shm_string_client.py", BOTH), ("simple_%s_health_metadata.py", BOTH),
            ("simple_%s_model_control.py", BOTH), ("simple_%s_aio_infer_client.py", BOTH), ("simple_%s_aio_string_infer_client.py", BOTH),
            ("simple_%s_aio_shm_client.py", BOTH), ("simple_%s_aio_shm_string_client.py", BOTH), ("simple_%s_aio_health_metadata.py", BOTH),
            ("simple_%s_aio_model_control.py", BOTH), ("simple_%s_keepalive_client.py", GRPC), ("simple_%s_aio_keepalive_client.py", GRPC),
            ("simple_%s_custom_args_client.py", GRPC), ("simple_%s_aio_custom_args_client.py", GRPC), ("%s_client.py", GRPC),
            ("%s_explicit_int_content_client.py", GRPC), ("%s_explicit_int8_content_client.py", GRPC),
            ("%s_explicit_byte_content_client.py", GRPC), ("memory_growth_test.py", BOTH), ("reuse_infer_objects_client.py", BOTH),
            ("simple_%s_sequence_sync_infer_client.py", BOTH), ("simple_%s_sequence_stream_infer_client.py", GRPC),
            ("simple_%s_aio_sequence_sync_infer_client.py", HTTP), ("simple_%s_aio_sequence_stream_infer_client.py", GRPC),
            ("simple_%s_custom_repeat.py", GRPC)]
MORE = {"memory_growth_test.py": ["-r", "200"]}
# What is declined on purpose, and with which words.
DECLINED = {"sequence": "sequences (sequence_id) are not supported by this server", "custom_repeat": "backend 'repeat': there is no "}
# Looks for the words of an error in status(), which is the name of a code, and not in message(); no server can make it pass.
STATUS_FOR_MESSAGE = ("simple_grpc_model_control.py", "got 'StatusCode.INVALID_ARGUMENT'", "e.status()", "e.message()")


def run(path, protocol, url):
    """What the program says, and whether it is content."""
    name = os.path.basename(path)
    with open(path) as file:
        text = file.read()
    arguments = [sys.executable, path, *MORE.get(name, []), *(["-u", url] if '"--url"' in text or "'--url'" in text else []),
                 *([] if "_%s_" % protocol in "_" + name else ["-i", protocol])]
    done = subprocess.run(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120)
    good = done.returncode == 0 and ("PASS" in done.stdout or not re.search(r"print\(['\"]PASS", text))
    return good, "exit code %d: %s" % (done.returncode, done.stdout[-400:])


def program(path, protocol, url):
    name = os.path.basename(path)
    good, output = run(path, protocol, url)
    for part, words in DECLINED.items():
        if part in name:
            assert not good and words in output, output
            said = re.search(r"[^\n]*" + re.escape(words) + r"[^\n]*", output).group(0)
            return "refused: " + re.sub(r"^exit code \d+: | in /.*", "", said)
    if not good and name == STATUS_FOR_MESSAGE[0] and STATUS_FOR_MESSAGE[1] in output:
        with open(path) as file, serving.temporary() as folder:
            mended = os.path.join(folder, name)
            models.write(mended, file.read().replace(*STATUS_FOR_MESSAGE[2:]))
            good, output = run(mended, protocol, url)
        assert good, output
        return "own fault: gRPC's looks for words of the error in e.status(), which is the name of a code; with e.message() it passes"
    assert good, output


def is_free(port):
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return one.connect_ex(("127.0.0.1", port)) != 0


def model_count(path):
    """How many models the program wants to see; 0: it does not count them."""
    with open(path) as file:
        found = re.search(r"repository_index\(.*!= (\d+)", file.read())
    return int(found.group(1)) if found else 0


def main():
    folder, path = sys.argv[1:]
    directory = serving.temporary()
    common = ["--id", "triton", "--allow-client-shm"]
    repositories = {len(files): models.write_models("%s/%d" % (directory.name, len(files)), files)
                    for files in (models.SEVEN, models.EXAMPLES, models.MORE_EXAMPLES)}
    # Some programs have no option for the address.
    ports = [] if all(is_free(port) for port in (8000, 8001, 8002)) else serving.ANY_PORTS
    rows = results.Results(version("tritonclient"))
    with serving.Server(repositories[len(models.MORE_EXAMPLES)], *common, ports=ports) as server:
        for pattern, protocols in PROGRAMS:
            for protocol in protocols:
                name = pattern % protocol if "%s" in pattern else pattern
                file = "%s/%s" % (folder, name)
                if not os.path.exists(file):
                    continue
                row = (AREA, pattern.replace("%s", "*"), protocol + (".aio" if "_aio_" in name else ""), program, file, protocol)
                count = model_count(file)
                if count > 0:
                    with serving.Server(repositories[count], *common, "--model-control-mode", "explicit") as explicit:
                        rows.run(*row, address(explicit, protocol))
                elif name != "memory_growth_test.py" or ports == []:
                    rows.run(*row, address(server, protocol))
                else:
                    print("%s is not tried: ports 8000 to 8002 are taken" % name, file=sys.stderr)
    rows.save(path)
    sys.exit(1 if rows.failures or not rows.rows else 0)


def address(server, protocol):
    return "127.0.0.1:%d" % (server.port if protocol == "http" else server.grpc_port)


main()
