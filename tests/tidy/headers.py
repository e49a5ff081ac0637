"""Every header compiles alone."""
from tap import ROOT, clean, finish, verdict


def guarded(name, body):
    return f"/* A header. */\n#ifndef {name}\n#define {name}\n{body}\n#endif\n"


clean("every header of the tree compiles alone", ROOT / "tools/check-headers")
verdict("check-headers", {"core/a.h": guarded("A_H", "#include <stdint.h>\nuint8_t f(void);")}, None, "a complete header")
verdict("check-headers", {"core/a.h": guarded("A_H", "uint8_t f(void);")}, "does not compile alone", "a header that lacks an include")
verdict("check-headers", {"core/a.h": "/* A header. */\nint f(void);\n"}, "no include guard", "a header without a guard")
verdict("check-headers", {"include/fermata/a.h": guarded("A_H", "#include <stdio.h>\nssize_t f(void);\n#include <stdlib.h>\nint g(cpu_set_t *s);")},
        "does not compile alone", "an installed header that needs glibc's extensions")
finish()
