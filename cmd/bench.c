/*
 * `fermata bench`: the group of what measures, and of what is needed for it.
 *
 * Owns: the group's own help. Each of its commands is a file cmd/bench_<name>.c. Thread rule: the
 * main thread.
 */
#include "cmd/command.h"

static int run(const struct fm_call *call)
{
    return fm_call_usage(call, "'%s' has to stand right behind 'fermata bench'",
                         fm_call_positional(call, 0));
}

static const struct fm_positional positionals[] = {
    {.name = "COMMAND", .help = "what to do"},
    {.name = NULL},
};

static const struct fm_example examples[] = {
    {"What does scheduling a request cost?",
     "fermata bench sched --models 1 --accelerators 8 --rate 1000000"},
    {"A model of any size to measure with",
     "fermata bench model transformer --layers 4 --hidden 512 --output models/t4"},
    {"How would tasks of a benchmark be shared among followers?", "fermata bench queue"},
    {NULL, NULL},
};

const struct fm_command fm_command_bench = {
    .name = "bench",
    .summary = "measure, and make what to measure with",
    .description = "These commands measure parts of Fermata, make models to measure with, and "
                   "show how tasks are shared among machines.",
    .positionals = positionals,
    .examples = examples,
    .see_also = "docs/benchmarking.md",
    .group = true,
    .run = run,
};
