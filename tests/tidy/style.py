"""Line, function and file length; banned calls; unfinished work."""
from tap import HEAD, ROOT, clean, finish, verdict


def body(lines):
    return "int f(void)\n{\n" + "    f();\n" * lines + "}\n"


def file(text, expected, name, head=HEAD):
    verdict("check-style", {"core/util/a.c": head + text}, expected, name)


clean("the tree reads well", ROOT / "tools/check-style")
file("int a; /* strcpy(a, b) */\nconst char *b = \"strcpy(x)\";\n", None, "a banned name in a comment or a string")
file(body(80), None, "a function of 80 lines")
file(body(81), "a function of 81 lines", "a function of 81 lines")
file("/* LONG: one table row a line. */\n" + body(120), None, "a long function that says why")
file("int x = " + "1 + " * 30 + "1;\n", "columns (at most 100)", "a line of over 100 columns")
file("int x;\n" * 1500, "split it by noun", "a file of over 1,500 lines")
file("int x;\n", "begins without a comment", "a file without an opening comment", head="")
file("\tint x;\n", "a tab", "a tab")
file("int x; \n", "trailing blank", "a trailing blank")
file("/* TO" + "DO: later */\n", "unfinished work", "a mark of unfinished work")
file("/* TO" + "DO #12: later */\n", None, "a mark with its issue number")
for name in ["strcpy", "strcat", "sprintf", "gets", "atoi", "strtok"]:
    file(f"void f(void)\n{{\n    {name}(a);\n}}\n", f"{name}() is banned", f"{name}()")
file("void f(void)\n{\n    x->gets(a);\n    fm_atoi(b);\n}\n", None, "names that only end alike")
finish()
