"""A strict reader of the Prometheus text format, version 0.0.4: whatever a scraper might stumble over is an error here."""
import math
import re

NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")
NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|Inf)|NaN")
TYPES = {"counter", "gauge", "histogram", "summary", "untyped"}


class Bad(Exception):
    pass


def parse_labels(text, at):
    labels = {}
    if text[at:at + 1] != "{":
        return labels, at
    at += 1
    while text[at:at + 1] != "}":
        name = LABEL.match(text, at)
        if not name or text[name.end():name.end() + 2] != '="':
            raise Bad("a label: " + text)
        if name.group() in labels:
            raise Bad("a label twice: " + text)
        at, value = name.end() + 2, ""
        while True:
            character = text[at:at + 1]
            if character == "":
                raise Bad("an open label: " + text)
            at += 1
            if character == '"':
                break
            if character == "\\":
                character = {"\\": "\\", '"': '"', "n": "\n"}.get(text[at:at + 1])
                if character is None:
                    raise Bad("an escape: " + text)
                at += 1
            value += character
        labels[name.group()] = value
        if text[at:at + 1] == ",":
            at += 1
            if text[at:at + 1] == "}":
                raise Bad("a comma too many: " + text)
        elif text[at:at + 1] != "}":
            raise Bad("behind a label: " + text)
    return labels, at + 1


def parse_sample(text):
    name = NAME.match(text)
    if not name:
        raise Bad("a name: " + text)
    labels, at = parse_labels(text, name.end())
    if text[at:at + 1] != " " or not NUMBER.fullmatch(text[at + 1:]):
        raise Bad("a number: " + text)
    return name.group(), labels, float(text[at + 1:])


def check_histogram(name, samples):
    rows = {}
    for sample, labels, value in samples:
        bare = tuple(sorted((key, label) for key, label in labels.items() if key != "le"))
        rows.setdefault(bare, []).append((sample, labels, value))
    for bare, row in rows.items():
        buckets = [(float(labels["le"]), value) for sample, labels, value in row if sample == name + "_bucket"]
        total = [value for sample, _, value in row if sample == name + "_count"]
        if [bound for bound, _ in buckets] != sorted({bound for bound, _ in buckets}):
            raise Bad("%s%s: bounds not ascending" % (name, bare))
        if [value for _, value in buckets] != sorted(value for _, value in buckets):
            raise Bad("%s%s: counts shrink" % (name, bare))
        if not buckets or buckets[-1][0] != math.inf or total != [buckets[-1][1]]:
            raise Bad("%s%s: +Inf and _count" % (name, bare))
        if len([1 for sample, _, _ in row if sample == name + "_sum"]) != 1 or len(row) != len(buckets) + 2:
            raise Bad("%s%s: _sum" % (name, bare))


def parse(text):
    """{family: (type, [(name, labels, value)])}; raises Bad."""
    if not text.endswith("\n"):
        raise Bad("no newline at the end")
    families, current, seen = {}, None, set()
    pending_help = None
    for line in text[:-1].split("\n"):
        if line.startswith("# HELP "):
            pending_help = line.split(" ", 3)[2]
            if pending_help in families or len(line.split(" ", 3)) < 4:
                raise Bad("HELP twice or empty: " + line)
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            if name in families or kind not in TYPES or name != pending_help or not NAME.fullmatch(name):
                raise Bad("TYPE: " + line)
            current, families[name] = name, (kind, [])
        elif line.startswith("#") or not line:
            raise Bad("neither sample nor HELP nor TYPE: %r" % line)
        else:
            name, labels, value = parse_sample(line)
            kind = families[current][0] if current else None
            allowed = {current + end for end in ("_bucket", "_sum", "_count")} if kind == "histogram" else {current}
            if name not in allowed:
                raise Bad("not with its family: " + line)
            key = (name, tuple(sorted(labels.items())))
            if key in seen:
                raise Bad("twice: " + line)
            seen.add(key)
            if kind == "counter" and not value >= 0:
                raise Bad("a counter below 0: " + line)
            families[current][1].append((name, labels, value))
    for name, (kind, samples) in families.items():
        if not samples:
            raise Bad("an empty family: " + name)
        if kind == "histogram":
            check_histogram(name, samples)
    return families
