"""What core asks of the outside."""
import os
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
finish()
