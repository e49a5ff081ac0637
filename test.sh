#!/bin/sh
# Everything that is checked: sets the machine up, builds, runs all tests. The last line is "N passed, N failed, N skipped".
#
#   ./test.sh            all of it
#   ./test.sh --quick    the release build only: no sanitizers, no second compiler
#
# Works on a bare Debian, as root or with sudo; safe to repeat. Each build has a folder of its own, build-test/NAME.
set -u
cd "$(dirname "$0")" || exit 1
quick=0
case ${1:-} in
    '') ;;
    --quick) quick=1 ;;
    *) sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac

began=$(date +%s)
step() { printf '\n== %s  [%d s]\n' "$*" $(($(date +%s) - began)); }

step "setting up"
tools/setup --test || { echo "0 passed, 1 failed, 0 skipped"; exit 1; }

mkdir -p build-test
totals=build-test/totals
rm -f $totals
jobs=$(nproc)

# build NAME OPTIONS...: configures and compiles build-test/NAME. A build that fails is a failed test.
build() {
    name=$1
    shift
    if [ -f "build-test/$name/build.ninja" ]; then
        set -- configure "build-test/$name" "$@"
    else
        rm -rf "build-test/$name"
        set -- setup "build-test/$name" "$@"
    fi
    if meson "$@" --werror >"build-test/$name.log" 2>&1 && ninja -C "build-test/$name" -j "$jobs" >>"build-test/$name.log" 2>&1; then
        return 0
    fi
    grep -nE -A 8 'FAILED|ERROR|error:|warning:' "build-test/$name.log" | head -n 60
    echo "    the build failed; everything it said: build-test/$name.log"
    tools/run-tests --totals $totals --count "build $name" -- false
    return 1
}
run() {
    name=$1
    title=$2
    shift 2
    tools/run-tests --totals $totals --title "$title" "build-test/$name" "$@"
}

step "gcc, release build, warnings are errors"
CC=gcc build release -Dbuildtype=debugoptimized && run release "release build"

if [ $quick = 0 ]; then
    # The checks of the tree itself (tidy) say the same in every build: once is enough.
    step "gcc, AddressSanitizer and UndefinedBehaviorSanitizer, with coverage (without the slow tests)"
    CC=gcc build asan -Dbuildtype=debugoptimized -Db_sanitize=address,undefined -Db_lundef=false -Db_coverage=true -Dslow_tests=false && {
        find build-test/asan -name '*.gcda' -delete
        run asan "ASan and UBSan" --no-suite tidy
        tools/run-tests --totals $totals --count "every .c file is reached by a test" -- tools/check-reach build-test/asan
    }

    step "gcc, ThreadSanitizer (without the slow tests, and those of one thread)"
    CC=gcc build tsan -Dbuildtype=debugoptimized -Db_sanitize=thread -Db_lundef=false -Dslow_tests=false &&
        run tsan "TSan" --no-suite tidy

    step "clang, warnings are errors; clang-tidy"
    CC=clang build clang -Dbuildtype=debugoptimized && {
        tools/run-tests --totals $totals --count "clang builds everything without a warning" -- true
        tools/run-tests --totals $totals --count "clang-tidy finds nothing" -- tools/tidy build-test/clang
    }
fi

step "done"
tools/run-tests --totals $totals --sum
