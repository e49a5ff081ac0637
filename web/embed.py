"""Writes a C file with the pages in it. usage: web/embed.py OUTPUT FILE...

index.html becomes "/", other pages lose their ".html". The same files give the same bytes.
"""
import gzip
import hashlib
import pathlib
import sys

TYPES = {".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}


def array(name, data):
    rows = [", ".join(str(byte) for byte in data[at:at + 24]) for at in range(0, len(data), 24)]
    return "static const unsigned char %s[] = {\n    %s};\n" % (name, ",\n    ".join(rows))


def path_of(file):
    if file.name == "index.html":
        return "/"
    return "/" + (file.stem if file.suffix == ".html" else file.name)


def main():
    output, files = pathlib.Path(sys.argv[1]), sorted(map(pathlib.Path, sys.argv[2:]), key=lambda file: path_of(file))
    arrays, rows = [], []
    for number, file in enumerate(files):
        data = file.read_bytes()
        packed = gzip.compress(data, 9, mtime=0)
        arrays.append(array("bytes_%d" % number, data))
        smaller = len(packed) < len(data)
        if smaller:
            arrays.append(array("gzip_%d" % number, packed))
        rows.append('    {"%s", "%s", "\\"%s\\"", bytes_%d, sizeof(bytes_%d), %s},\n' % (
            path_of(file), TYPES[file.suffix], hashlib.sha256(data).hexdigest()[:20], number, number,
            "gzip_%d, sizeof(gzip_%d)" % (number, number) if smaller else "NULL, 0"))
    output.write_text("/* Made by web/embed.py. */\n#include \"web/web.h\"\n\n%s\nconst struct fm_web_file fm_web_files[] = {\n%s};\n"
                      "const size_t fm_web_file_count = sizeof(fm_web_files) / sizeof(fm_web_files[0]);\n" % ("\n".join(arrays), "".join(rows)))


if __name__ == "__main__":
    main()
