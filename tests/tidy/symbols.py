"""What core asks of the outside, and what the client's library shows it."""
import os
import pathlib
import re
import subprocess
import tempfile

from tap import BUILD, ROOT, clean, finish, ok, run

CC = os.environ.get("FM_CC", "cc")


def verdict(name, text, expected, file="sched_x.c"):
    with tempfile.TemporaryDirectory() as root:
        with open(f"{root}/{file}", "w", encoding="utf-8") as source:
            source.write(text)
        subprocess.run([CC, "-c", "-O0", "-o", f"{root}/{file}.o", f"{root}/{file}"], check=True)
        subprocess.run(["ar", "rc", f"{root}/libcore_x.a", f"{root}/{file}.o"], check=True)
        status, output = run(ROOT / "tools/check-symbols", root)
        if expected is None:
            ok(status == 0, f"accepts {name}", output)
        else:
            ok(status == 1 and expected in output, f"rejects {name}", output)


clean("core uses only what it may", ROOT / "tools/check-symbols", BUILD)
verdict("string functions", '#include <string.h>\nint f(const char *a);\nint f(const char *a) { return strcmp(a, "x"); }\n', None)
for function, text in {
    "clock_gettime": "#include <time.h>\nvoid f(struct timespec *t);\nvoid f(struct timespec *t) { clock_gettime(CLOCK_MONOTONIC, t); }\n",
    "time": "#include <time.h>\nlong f(void);\nlong f(void) { return time(NULL); }\n",
    "rand": "#include <stdlib.h>\nint f(void);\nint f(void) { return rand(); }\n",
    "getenv": '#include <stdlib.h>\nchar *f(void);\nchar *f(void) { return getenv("HOME"); }\n',
    "pthread_self": "#include <pthread.h>\npthread_t f(void);\npthread_t f(void) { return pthread_self(); }\n",
    "open": '#include <fcntl.h>\nint f(void);\nint f(void) { return open("x", O_RDONLY); }\n',
    "read": "#include <unistd.h>\nlong f(char *b);\nlong f(char *b) { return read(0, b, 1); }\n",
    "write": "#include <unistd.h>\nlong f(char *b);\nlong f(char *b) { return write(1, b, 1); }\n",
    "malloc": "#include <stdlib.h>\nvoid *f(void);\nvoid *f(void) { return malloc(9); }\n",
}.items():
    verdict(function, text, f"uses {function}()")
verdict("malloc in the one file that may", "#include <stdlib.h>\nvoid *f(void);\nvoid *f(void) { return malloc(9); }\n", None,
        "core_util_memory.c")

# Exactly the functions of its header: whatever else is inside must not meet the symbols of the programs that load it.
header = (ROOT / "include/fermata/client.h").read_text(encoding="utf-8")
declared = set(re.findall(r"FM_CLIENT_EXPORT\s[^(;]*?\*?\b(fm_client_\w+)\(", header))
library = pathlib.Path(BUILD) / "include/libfermata-client.so"
listed = subprocess.run(["nm", "-D", "--defined-only", "-P", library], capture_output=True, text=True, check=False)
exported = {line.split()[0].split("@")[0] for line in listed.stdout.splitlines()}
if os.environ.get("FM_SANITIZE", "none") != "none":
    exported = {name for name in exported if not re.match(r"_*(asan|ubsan|tsan|lsan|sanitizer)|__odr_asan", name)}
ok(len(declared) > 30 and header.count("FM_CLIENT_EXPORT ") - 1 == len(declared), "finds the functions of the client's header", str(sorted(declared)))
ok(exported == declared, "libfermata-client exports the functions of its header and nothing else", str(sorted(exported ^ declared)) + listed.stderr)
finish()
