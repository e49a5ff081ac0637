#!/bin/sh
# From an empty Debian machine to text read from real document pages by three neural networks.
#
#   ./demo.sh              its 11 pages
#   ./demo.sh --limit 3    the first of them
#
# Sets up, builds, reads, and says what to try next. Works as root or with sudo; safe to repeat: what is done stays done.
set -eu
cd "$(dirname "$0")"
limit=11
case ${1:-} in
    '') ;;
    --limit)
        limit=${2:-}
        case $limit in '' | *[!0-9]*) echo "demo: --limit takes a number of pages" >&2; exit 2 ;; esac ;;
    *) sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac

began=$(date +%s)
step() { printf '\n== %s  [%d s]\n' "$*" $(($(date +%s) - began)); }

step "1/4 setting up: Debian packages, ONNX Runtime, three models"
tools/setup

step "2/4 building build/fermata"
mkdir -p build
log=build/demo.log
[ -f build/build.ninja ] || meson setup build >$log 2>&1 || { tail -n 20 $log >&2; exit 1; }
ninja -C build >$log 2>&1 || { grep -E -A 6 'FAILED|error' $log | head -n 40 >&2; echo "demo: the build failed, see $log" >&2; exit 1; }
build/fermata --version | head -n 1

# Both are what examples/ocr/job.yaml names.
pages=build/ocr/pages
text=build/ocr/text

step "3/4 getting pages: PDFs of Debian's documentation packages, rasterised"
FERMATA_CACHE=${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/fermata/pages examples/ocr/fetch-pages demo $pages

step "4/4 reading $limit pages: detection -> orientation -> recognition"
build/fermata batch examples/ocr/job.yaml --limit "$limit" --restart

step "what was read (the beginning of the first pages; all of it: $text/part-*.jsonl)"
examples/ocr/show $text 3 8

step "how well: errors in characters, against the text layer of the PDFs"
build/examples/ocr/score --worst 0 $pages $text/part-*.jsonl

cat <<EOF

That was \`fermata batch\`. Next:
  one page, every output      build/fermata infer examples/ocr/pipeline.yaml $pages/bash/020.jpg
  the same online             build/fermata serve examples/ocr/pipeline.yaml        (docs/serving.md says how to ask it)
  this machine's best setting build/fermata profile .deps/models/ocr/cls --input-shape x=3,48,192
  all 615 pages               examples/ocr/README.md, with how well they are read
  everything that is checked  ./test.sh
EOF
