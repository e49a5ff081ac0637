"""The example programs that NVIDIA publishes with its client, as they are, against `fermata serve`.

    examples.py DIRECTORY RESULTS.json      DIRECTORY: src/python/examples of a checkout of triton-inference-server/client

Owns: which of them are run, with which addresses. They bring their own checks: exit code 0 means that the answers were right.
Those for sequences, decoupled models, CUDA memory and images need models that are not here.
"""
import os
import subprocess
import sys
from importlib.metadata import version

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, HERE + "/../../e2e"]

import models
import results
import serving

# Name, what is in front of `_client.py` and the like, protocols; the server in mode explicit serves model_control.
BOTH = ["http", "grpc"]
PROGRAMS = [("simple_%s_infer_client.py", BOTH), ("simple_%s_async_infer_client.py", BOTH), ("simple_%s_string_infer_client.py", BOTH),
            ("simple_%s_shm_client.py", BOTH), ("simple_%s_shm_string_client.py", BOTH), ("simple_%s_health_metadata.py", BOTH),
            ("simple_%s_model_control.py", BOTH), ("simple_%s_aio_infer_client.py", BOTH), ("simple_%s_aio_string_infer_client.py", BOTH),
            ("simple_%s_aio_shm_client.py", BOTH), ("simple_%s_aio_shm_string_client.py", BOTH), ("simple_%s_aio_health_metadata.py", BOTH),
            ("simple_%s_aio_model_control.py", BOTH), ("simple_%s_keepalive_client.py", ["grpc"]), ("simple_%s_custom_args_client.py", ["grpc"]),
            ("%s_client.py", ["grpc"]), ("%s_explicit_int_content_client.py", ["grpc"]), ("%s_explicit_int8_content_client.py", ["grpc"]),
            ("%s_explicit_byte_content_client.py", ["grpc"]), ("memory_growth_test.py", BOTH), ("reuse_infer_objects_client.py", BOTH)]
MORE = {"memory_growth_test.py": ["-r", "200"]}


def program(path, protocol, url):
    name = os.path.basename(path)
    arguments = [sys.executable, path, "-u", url, *MORE.get(name, []), *([] if protocol in name else ["-i", protocol])]
    done = subprocess.run(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120)
    assert done.returncode == 0, "exit code %d: %s" % (done.returncode, done.stdout[-400:])


def main():
    folder, path = sys.argv[1:]
    directory = serving.temporary()
    whole = models.repository(directory.name + "/whole")
    seven = models.repository(directory.name + "/seven", models.FILES)
    for name in ("simple_sequence", "simple_dyna_sequence", "simple_string_dyna_sequence"):  # there have to be seven models
        models.write("%s/%s/model.yaml" % (seven[0], name), "backend: identity\n")
    rows = results.Results(version("tritonclient"))
    with serving.Server(*whole, "--allow-client-shm") as server, serving.Server(*seven, "--model-control-mode", "explicit") as explicit:
        for pattern, protocols in PROGRAMS:
            for protocol in protocols:
                name = pattern % protocol if "%s" in pattern else pattern
                if os.path.exists(folder + "/" + name):
                    it = explicit if "model_control" in name else server
                    url = "127.0.0.1:%d" % (it.port if protocol == "http" else it.grpc_port)
                    rows.run("published examples", name, protocol + (".aio" if "_aio_" in name else ""), program, folder + "/" + name, protocol, url)
    rows.save(path)
    sys.exit(1 if rows.failures or not rows.rows else 0)


main()
