"""Writes a file's bytes as a C array. usage: host/messages/embed.py FILE OUTPUT NAME"""
import pathlib
import sys

source, output, name = sys.argv[1:]
data = pathlib.Path(source).read_bytes()
rows = [", ".join(map(str, data[at:at + 24])) for at in range(0, len(data), 24)]
pathlib.Path(output).write_text(
    "/* Made by host/messages/embed.py. */\n#include <stddef.h>\nextern const unsigned char {0}[];\nextern const size_t {0}_size;\n"
    "const unsigned char {0}[] = {{\n    {1}}};\nconst size_t {0}_size = sizeof({0});\n".format(name, ",\n    ".join(rows)))
