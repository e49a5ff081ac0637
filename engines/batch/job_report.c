/*
 * The report of a job as a page. See job_report.h.
 */
#include "engines/batch/job_report.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/plot/axis.h"
#include "core/plot/markup.h"
#include "core/proto/batch_accelerators.h"
#include "core/stats/progress.h"
#include "core/util/error.h"
#include "core/util/memory.h"
#include "engines/batch/history.h"
#include "engines/batch/job_look.h"
#include "engines/batch/letters.h"
#include "engines/batch/output.h"
#include "host/os/os.h"

#define WIDTH     720.0
#define HEIGHT    220.0
#define LEFT      56.0
#define RIGHT     12.0
#define TOP       10.0
#define BOTTOM    36.0
#define NS_PER_MS UINT64_C(1000000)

enum { POINTS_MAX = 240, STAGES_MAX = 32, GROUPS_SHOWN_MAX = 30 };

/* Colours as on the dashboard (web/app.css). */
static const char style[] =
    "<style>\n"
    ":root{--ground:#f4f5f8;--card:#fff;--ink:#161a22;--soft:#5a6373;--line:#e4e7ed;--fill:#eef0f4;"
    "--accent:#3347b8;--good:#0a7558;--late:#985c00;--drop:#c93838;color-scheme:light}\n"
    "@media(prefers-color-scheme:dark){:root{--ground:#0e1116;--card:#161a21;--ink:#e9ecf2;"
    "--soft:#a2abba;--line:#272d37;--fill:#1f252e;--accent:#93a5ff;--good:#34c79f;--late:#eeb04a;"
    "--drop:#ff7a70;color-scheme:dark}}\n"
    "*{box-sizing:border-box}\n"
    "body{margin:0 auto;max-width:1080px;padding:16px;background:var(--ground);color:var(--ink);"
    "font:15px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,'Noto Sans',sans-serif;"
    "font-variant-numeric:tabular-nums}\n"
    "h1{font-size:1.5em;margin:.2em 0;overflow-wrap:anywhere}h2{font-size:1.1em;margin:0 0 .4em}\n"
    "p{margin:.3em 0}.soft{color:var(--soft)}code{overflow-wrap:anywhere}\n"
    "section{background:var(--card);border:1px solid var(--line);border-radius:12px;"
    "padding:14px 16px;margin:12px 0}\n"
    ".tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(140px,1fr));gap:10px;margin:"
    "0}"
    "\n.tiles div{background:var(--card);border:1px solid var(--line);border-radius:12px;"
    "padding:10px 14px}.tiles dt{color:var(--soft);font-size:.85em}"
    ".tiles dd{margin:0;font-size:1.35em;font-weight:650}\n"
    ".good{color:var(--good)}.late{color:var(--late)}.drop{color:var(--drop)}\n"
    ".wide{overflow-x:auto}.wide:focus-visible{outline:2px solid var(--accent)}\n"
    "table{border-collapse:collapse;width:100%}caption{text-align:left;color:var(--soft)}\n"
    "th,td{text-align:right;padding:.25em .5em;border-bottom:1px solid var(--line);"
    "vertical-align:top}th{color:var(--soft);font-weight:550}\n"
    ".text,.name{text-align:left}td.text{overflow-wrap:anywhere;min-width:8em}"
    ".name{white-space:nowrap}\n"
    ".bar{width:40%}.bar i{display:block;height:.6em;margin-top:.45em;border-radius:.3em;"
    "background:var(--accent)}\n"
    "svg{width:100%;height:auto;display:block}svg text{font-size:11px;fill:var(--soft)}\n"
    "@media print{body{background:#fff}section{break-inside:avoid}}\n"
    "</style>";

struct report {
    const struct fm_job_report_options *options;
    struct fm_text *text;
    struct fm_job_look look;
    struct fm_history_record history;
    struct fm_letter_summary letters;
    char letters_trouble[FM_ERROR_TEXT_SIZE];
    /* Of the history. */
    uint64_t running_ms;
    double worker_hours;
    uint64_t runs;
    uint64_t rows_seen; /* done while it was watched */
    uint64_t workers_max;
    uint64_t workers_lost;
    uint64_t attempts_failed;
    uint64_t shards_cut;
};

static void put(const struct report *report, const char *html)
{
    fm_text_append_string(report->text, html);
}

/* As text of the page. */
static void escape_n(const struct report *report, const char *string, size_t length)
{
    fm_markup_escape(report->text, string, length);
}

static void escape(const struct report *report, const char *string)
{
    fm_markup_escape_string(report->text, string);
}

static void number(const struct report *report, const char *before, uint64_t value,
                   const char *behind)
{
    fm_text_append_format(report->text, "%s%" PRIu64 "%s", before, value, behind);
}

/* --- Gathering --- */

static int letter_take(void *context, const struct fm_row_letter *letter, const char *line,
                       size_t length)
{
    (void)line;
    (void)length;
    return fm_letter_summary_add(context, letter);
}

static void history_sum(struct report *report)
{
    const struct fm_history_record *history = &report->history;
    for (size_t i = 0; i < history->sample_count; i++) {
        const struct fm_history_sample *sample = &history->samples[i];
        bool last = i + 1 == history->sample_count || history->samples[i + 1].begin;
        report->runs += sample->begin || i == 0 ? 1 : 0;
        report->workers_max =
            sample->workers > report->workers_max ? sample->workers : report->workers_max;
        if (last) {
            report->workers_lost += sample->workers_lost;
            report->attempts_failed += sample->attempts_failed;
            report->shards_cut += sample->shards_cut;
        }
        if (i == 0 || sample->begin) {
            continue;
        }
        const struct fm_history_sample *before = sample - 1;
        uint64_t ms = sample->wall_ms > before->wall_ms ? sample->wall_ms - before->wall_ms : 0;
        report->running_ms += ms;
        report->worker_hours +=
            (double)ms / 3600000 *
            (double)(before->workers > sample->workers ? before->workers : sample->workers);
        report->rows_seen +=
            sample->rows_done > before->rows_done ? sample->rows_done - before->rows_done : 0;
    }
}

static int gather(struct report *report, struct fm_error *reterr)
{
    char path[FM_OUTPUT_PATH_MAX];
    struct fm_error error = {0};
    const char *directory = report->options->directory;
    int status = fm_job_look(directory, &report->look, reterr);
    status = status != 0 ? status
                         : fm_output_state_path(directory, FM_OUTPUT_HISTORY_FILE, path,
                                                sizeof(path), reterr);
    status = status != 0 ? status : fm_history_read(path, &report->history, reterr);
    if (status != 0) {
        return status;
    }
    const struct fm_letters_options letters = {
        .directory = directory, .each = letter_take, .context = &report->letters};
    status = fm_letters_each(&letters, &error);
    if (status == FM_ENOMEM) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for the report");
    }
    if (status != 0 && status != FM_ENOTFOUND) {
        (void)snprintf(report->letters_trouble, sizeof(report->letters_trouble), "%s", error.text);
    }
    fm_letter_summary_sort(&report->letters);
    history_sum(report);
    return 0;
}

/* --- Charts --- */

/* Both axes begin at 0. */
struct chart {
    double x_max;
    double y_max;
};

static double x_of(const struct chart *chart, double x)
{
    return LEFT + x / chart->x_max * (WIDTH - LEFT - RIGHT);
}

static double y_of(const struct chart *chart, double y)
{
    return HEIGHT - BOTTOM - y / chart->y_max * (HEIGHT - TOP - BOTTOM);
}

static struct chart chart_begin(const struct report *report, double x_max, double y_max,
                                const char *title, const char *x_unit)
{
    struct chart chart = {.x_max = x_max > 0 ? x_max : 1, .y_max = y_max > 0 ? y_max * 1.05 : 1};
    double x_step = fm_axis_step(chart.x_max, 8);
    double y_step = fm_axis_step(chart.y_max, 4);
    fm_text_append_format(report->text,
                          "<svg viewBox=\"0 0 %g %g\" role=\"img\" aria-label=\"%s\">"
                          "<title>%s</title>\n",
                          WIDTH, HEIGHT, title, title);
    for (double y = 0; y <= chart.y_max; y += y_step) {
        fm_text_append_format(report->text,
                              "<path d=\"M%g %.1fH%g\" stroke=\"var(--line)\"/><text x=\"%g\" "
                              "y=\"%.1f\" text-anchor=\"end\">%g</text>\n",
                              LEFT, y_of(&chart, y), WIDTH - RIGHT, LEFT - 6, y_of(&chart, y) + 4,
                              y);
    }
    for (double x = 0; x <= chart.x_max * 1.0001; x += x_step) {
        fm_text_append_format(report->text,
                              "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%g</text>\n",
                              x_of(&chart, x), HEIGHT - BOTTOM + 15, x);
    }
    fm_text_append_format(report->text,
                          "<text x=\"%g\" y=\"%g\" text-anchor=\"middle\">%s</text>\n",
                          (LEFT + WIDTH) / 2, HEIGHT - 4, x_unit);
    return chart;
}

/* The history in equal pieces of running time: `values[i]` is a mean over piece i. */
struct pieces {
    double rates[POINTS_MAX];
    double workers[POINTS_MAX];
    double lengths[POINTS_MAX]; /* ms that are known of it */
    size_t count;
    double piece_ms;
};

static void pieces_make(const struct report *report, struct pieces *ret_pieces)
{
    const struct fm_history_record *history = &report->history;
    double from_ms = 0;
    *ret_pieces =
        (struct pieces){.count = POINTS_MAX, .piece_ms = (double)report->running_ms / POINTS_MAX};
    for (size_t i = 1; i < history->sample_count; i++) {
        const struct fm_history_sample *sample = &history->samples[i];
        const struct fm_history_sample *before = sample - 1;
        if (sample->begin || sample->wall_ms <= before->wall_ms) {
            continue;
        }
        double ms = (double)(sample->wall_ms - before->wall_ms);
        double rate = sample->rows_done > before->rows_done
                          ? (double)(sample->rows_done - before->rows_done) / ms * 1000
                          : 0;
        double to_ms = from_ms + ms;
        size_t first = (size_t)(from_ms / ret_pieces->piece_ms);
        for (size_t k = first; k < POINTS_MAX && (double)k * ret_pieces->piece_ms < to_ms; k++) {
            double begin = fmax(from_ms, (double)k * ret_pieces->piece_ms);
            double end = fmin(to_ms, (double)(k + 1) * ret_pieces->piece_ms);
            ret_pieces->rates[k] += rate * (end - begin);
            ret_pieces->workers[k] += (double)sample->workers * (end - begin);
            ret_pieces->lengths[k] += end - begin;
        }
        from_ms = to_ms;
    }
    for (size_t k = 0; k < POINTS_MAX; k++) {
        double length = ret_pieces->lengths[k] > 0 ? ret_pieces->lengths[k] : 1;
        ret_pieces->rates[k] /= length;
        ret_pieces->workers[k] /= length;
    }
}

static void steps_draw(const struct report *report, const double *values, double unit_ms,
                       const struct pieces *pieces, const char *title, const char *x_unit)
{
    double most = 0;
    for (size_t i = 0; i < pieces->count; i++) {
        most = values[i] > most ? values[i] : most;
    }
    struct chart chart =
        chart_begin(report, (double)report->running_ms / unit_ms, most, title, x_unit);
    put(report, "<path fill=\"none\" stroke=\"var(--accent)\" stroke-width=\"1.5\" d=\"");
    for (size_t i = 0; i < pieces->count; i++) {
        double x = (double)i * pieces->piece_ms / unit_ms;
        fm_text_append_format(report->text, "%s%.1f %.1fH%.1f", i == 0 ? "M" : "L", x_of(&chart, x),
                              y_of(&chart, values[i]),
                              x_of(&chart, x + pieces->piece_ms / unit_ms));
    }
    put(report, "\"/></svg>\n");
}

static void charts_write(const struct report *report)
{
    struct pieces pieces;
    bool hours = report->running_ms > UINT64_C(3) * 3600000;
    bool minutes = report->running_ms > UINT64_C(3) * 60000;
    double unit_ms = hours ? 3600000 : minutes ? 60000 : 1000;
    const char *unit = hours     ? "hours of running"
                       : minutes ? "minutes of running"
                                 : "seconds of running";
    put(report, "<section><h2>Rows per second over time</h2>\n");
    if (report->running_ms == 0) {
        put(report, "<p class=\"soft\">There is no history of this job.</p></section>\n");
        return;
    }
    pieces_make(report, &pieces);
    steps_draw(report, pieces.rates, unit_ms, &pieces, "rows per second over time", unit);
    put(report, "<h2>Workers over time</h2>\n");
    steps_draw(report, pieces.workers, unit_ms, &pieces, "connected workers over time", unit);
    put(report, "<p class=\"soft\">Times in which the job did not run are left out.</p>"
                "</section>\n");
}

/* --- Sections --- */

static void tile(const struct report *report, const char *name, const char *value)
{
    put(report, "<div><dt>");
    put(report, name);
    put(report, "</dt><dd>");
    escape(report, value);
    put(report, "</dd></div>\n");
}

static void tiles_write(const struct report *report)
{
    char value[64];
    char words[48];
    const struct fm_job_look *look = &report->look;
    uint64_t done = look->rows_out + look->dead_letters;
    put(report, "<dl class=\"tiles\">\n");
    (void)snprintf(value, sizeof(value), "%" PRIu64 " of %" PRIu64, done, look->rows_total);
    tile(report, "rows done", value);
    (void)snprintf(value, sizeof(value), "%" PRIu64, look->dead_letters);
    tile(report, "dead letters", value);
    if (report->running_ms > 0) {
        (void)fm_progress_format_duration(report->running_ms * NS_PER_MS, words, sizeof(words));
        (void)snprintf(value, sizeof(value), "%s", words);
        tile(report, report->runs > 1 ? "time, all runs" : "time", value);
        (void)fm_progress_format_rate((double)report->rows_seen * 1000 / (double)report->running_ms,
                                      value, sizeof(value));
        tile(report, "rows per second, mean", value);
        (void)snprintf(value, sizeof(value), "%" PRIu64, report->workers_max);
        tile(report, "workers at most", value);
    }
    if (report->options->price_per_hour > 0 && report->running_ms > 0) {
        double cost = report->worker_hours * report->options->price_per_hour;
        (void)snprintf(value, sizeof(value), "%.2f", cost);
        tile(report, "cost so far, estimated", value);
        if (report->rows_seen > 0) {
            (void)snprintf(value, sizeof(value), "%.4g", cost * 1e6 / (double)report->rows_seen);
            tile(report, "cost of a million rows", value);
        }
    }
    put(report, "</dl>\n");
}

static void proof_write(const struct report *report)
{
    const struct fm_job_look *look = &report->look;
    bool complete =
        look->standing == FM_JOB_COMPLETE || look->standing == FM_JOB_COMPLETE_WITH_LETTERS;
    put(report, "<section><h2>Completeness</h2>\n");
    if (look->standing == FM_JOB_UNREADABLE) {
        put(report, "<p class=\"drop\">");
        escape(report, look->trouble.text);
        put(report, "</p></section>\n");
        return;
    }
    number(report, "<p>", look->rows_total, " rows in = ");
    number(report, "", look->rows_out, " results + ");
    number(report, "", look->dead_letters, " dead letters");
    uint64_t rest = look->rows_total - look->rows_out - look->dead_letters;
    if (rest > 0) {
        number(report, " + ", rest, " still to do");
        number(report, " (", look->rows_leased, " in work");
        number(report, ", ", look->rows_given_up, " given up)");
    }
    put(report, complete ? ": <strong class=\"good\">complete</strong>."
                         : ": <strong class=\"late\">not complete</strong>.");
    put(report, "</p>\n<p class=\"soft\">As the ledger says. To have it proven from every byte of "
                "the results: <code>fermata job verify ");
    escape(report, report->options->directory);
    put(report, "</code></p></section>\n");
}

/* Over all runs; times in milliseconds. */
struct stage_time {
    char name[FM_HISTORY_STAGE_SIZE];
    double busy; /* share times ms ... */
    double seen; /* ... of the ms in which it was heard of */
    double slowest;
    double share; /* of the computing time, times the ms in which it was the slowest */
};

struct stage_times {
    struct stage_time items[STAGES_MAX];
    size_t count;
    double slowest; /* of all of them */
};

/* NULL: there are too many. */
static struct stage_time *stage_time_of(struct stage_times *times, const char *name)
{
    size_t at = 0;
    while (at < times->count && strcmp(times->items[at].name, name) != 0) {
        at++;
    }
    if (at == STAGES_MAX) {
        return NULL;
    }
    if (at == times->count) {
        (void)snprintf(times->items[times->count++].name, sizeof(times->items[0].name), "%s", name);
    }
    return &times->items[at];
}

static void stage_times_add(struct stage_times *times, const struct fm_history_sample *sample,
                            double ms)
{
    for (uint32_t i = 0; i < sample->stages.count; i++) {
        struct stage_time *stage = stage_time_of(times, sample->stages.items[i].name);
        if (stage != NULL) {
            stage->busy += ms * sample->stages.items[i].busy;
            stage->seen += ms;
        }
    }
    struct stage_time *slowest =
        sample->stage[0] != '\0' ? stage_time_of(times, sample->stage) : NULL;
    if (slowest != NULL) {
        slowest->slowest += ms;
        slowest->share += ms * sample->stage_share;
        times->slowest += ms;
    }
}

static void stage_time_write(const struct report *report, const struct stage_times *times,
                             const struct stage_time *stage)
{
    put(report, "<tr><th scope=\"row\" class=\"name\">");
    escape(report, stage->name);
    if (stage->seen > 0) {
        double percent = stage->busy / stage->seen * 100;
        fm_text_append_format(report->text,
                              "</th><td class=\"bar\"><i style=\"width:%.0f%%\"></i></td>"
                              "<td>%.0f %%</td>",
                              percent, percent);
    } else {
        put(report, "</th><td></td><td></td>");
    }
    if (stage->slowest > 0) {
        fm_text_append_format(report->text, "<td>%.0f %%</td><td>%.0f %%</td></tr>\n",
                              stage->slowest / times->slowest * 100,
                              stage->share / stage->slowest * 100);
    } else {
        put(report, "<td></td><td></td></tr>\n");
    }
}

static void stages_write(const struct report *report)
{
    const struct fm_history_record *history = &report->history;
    struct stage_times times = {.count = 0};
    for (size_t i = 1; i < history->sample_count; i++) {
        const struct fm_history_sample *sample = &history->samples[i];
        if (!sample->begin && sample->wall_ms > (sample - 1)->wall_ms) {
            stage_times_add(&times, sample, (double)(sample->wall_ms - (sample - 1)->wall_ms));
        }
    }
    if (times.count == 0) {
        return;
    }
    put(report, "<section><h2>Stages</h2>\n<div class=\"wide\" tabindex=\"0\"><table>"
                "<caption>How busy the instances or threads of a stage were, as a mean over time "
                "and workers; for how long it took most of the computing time, and how much of it "
                "then</caption><thead><tr><th scope=\"col\" class=\"name\">stage</th>"
                "<th scope=\"col\" colspan=\"2\">busy</th><th scope=\"col\">slowest for</th>"
                "<th scope=\"col\">its share then</th></tr></thead><tbody>\n");
    for (size_t i = 0; i < times.count; i++) {
        stage_time_write(report, &times, &times.items[i]);
    }
    put(report, "</tbody></table></div></section>\n");
}

static void losses_write(const struct report *report)
{
    const struct fm_job_look *look = &report->look;
    put(report, "<section><h2>Retries and losses</h2>\n");
    number(report, "<p>Attempts that ended with their worker: ",
           look->failures[FM_SHARD_FAILURE_INFRASTRUCTURE], "; ");
    number(report, "attempts that their rows ended: ", look->failures[FM_SHARD_FAILURE_DATA],
           ", as the ledger counts them by shard.");
    if (report->history.sample_count > 0) {
        number(report, " In the runs that were watched: ", report->workers_lost, " and ");
        number(report, "", report->attempts_failed, "; shards cut in halves: ");
        number(report, "", report->shards_cut, ".");
    }
    put(report, "</p>\n");
    if (look->worst_count > 0) {
        put(report, "<div class=\"wide\" tabindex=\"0\"><table><caption>Shards that failed most"
                    "</caption><thead><tr><th scope=\"col\">shard</th><th scope=\"col\">rows</th>"
                    "<th scope=\"col\">failed</th><th scope=\"col\" class=\"text\">the last time"
                    "</th></tr></thead><tbody>\n");
        for (uint32_t i = 0; i < look->worst_count; i++) {
            const struct fm_shard_record *record = &look->worst[i];
            const struct fm_shard *shard = &record->shard;
            number(report, "<tr><th scope=\"row\">", shard->number, "</th>");
            number(report, "<td>", shard->first_row, "&ndash;");
            number(report, "", shard->first_row + shard->row_count - 1, "</td>");
            number(report, "<td>", (uint64_t)shard->failures[0] + shard->failures[1],
                   "</td><td class=\"text\">");
            escape(report, record->reason);
            put(report, "</td></tr>\n");
        }
        put(report, "</tbody></table></div>");
    }
    put(report, "</section>\n");
}

static void shards_write(const struct report *report)
{
    const struct fm_history_record *history = &report->history;
    char words[48];
    if (history->shard_count == 0) {
        return;
    }
    put(report, "<section><h2>Slowest shards</h2>\n<div class=\"wide\" tabindex=\"0\"><table>"
                "<caption>From being handed out until they were committed</caption><thead><tr>"
                "<th scope=\"col\">shard</th><th scope=\"col\">first row</th><th scope=\"col\">rows"
                "</th><th scope=\"col\">took</th></tr></thead><tbody>\n");
    for (size_t i = 0; i < history->shard_count; i++) {
        const struct fm_history_shard *shard = &history->shards[i];
        number(report, "<tr><th scope=\"row\">", shard->number, "</th>");
        number(report, "<td>", shard->first_row, "</td>");
        number(report, "<td>", shard->rows, "</td><td>");
        if (shard->ms < 60000) {
            fm_text_append_format(report->text, "%.1f s", (double)shard->ms / 1000);
        } else {
            put(report, fm_progress_format_duration(shard->ms * NS_PER_MS, words, sizeof(words)));
        }
        put(report, "</td></tr>\n");
    }
    put(report, "</tbody></table></div></section>\n");
}

static void letters_write(const struct report *report)
{
    const struct fm_letter_summary *letters = &report->letters;
    uint64_t rest = letters->total;
    put(report, "<section><h2>Dead letters by reason</h2>\n");
    if (report->letters_trouble[0] != '\0') {
        put(report, "<p class=\"drop\">");
        escape(report, report->letters_trouble);
        put(report, "</p>\n");
    }
    if (letters->total == 0) {
        put(report, "<p>There are none.</p></section>\n");
        return;
    }
    put(report,
        "<div class=\"wide\" tabindex=\"0\"><table><thead><tr><th scope=\"col\">rows</th>"
        "<th scope=\"col\" class=\"text\">stage</th><th scope=\"col\" class=\"text\">code"
        "</th><th scope=\"col\" class=\"text\">message</th><th scope=\"col\" class=\"text\">"
        "such as</th></tr></thead><tbody>\n");
    for (size_t i = 0; i < letters->count && i < GROUPS_SHOWN_MAX; i++) {
        const struct fm_letter_group *group = &letters->groups[i];
        const char *const cells[] = {group->stage, group->code, group->pattern, group->example};
        number(report, "<tr><td>", group->count, "</td>");
        for (size_t k = 0; k < sizeof(cells) / sizeof(cells[0]); k++) {
            put(report, "<td class=\"text\">");
            escape(report, cells[k]);
            put(report, "</td>");
        }
        put(report, "</tr>\n");
        rest -= group->count;
    }
    put(report, "</tbody></table></div>");
    if (rest > 0) {
        number(report, "<p class=\"soft\">and ", rest, " others</p>");
    }
    put(report, "</section>\n");
}

static void accelerators_write(const struct report *report, struct fm_batch_view text)
{
    struct fm_batch_accelerator accelerator;
    const char *before = "; accelerators: ";
    while (fm_batch_accelerator_next(&text, &accelerator)) {
        put(report, before);
        escape_n(report, accelerator.name.data, accelerator.name.size);
        number(report, " ", accelerator.busy_ms / 1000, " s in ");
        number(report, "", accelerator.batches, " batches");
        before = ", ";
    }
}

static void tuned_write(const struct report *report, const struct fm_batch_tuned *tuned)
{
    put(report, "<td class=\"text\">");
    if (tuned->readers > 0) {
        number(report, "", tuned->readers, " read");
        if (tuned->operators > 0) {
            number(report, ", ", tuned->operators, " run operators");
        }
        number(report, ", ", tuned->rows, " rows");
        put(report, tuned->batches.size > 0 ? "; batches: " : "");
        escape_n(report, tuned->batches.data != NULL ? tuned->batches.data : "",
                 tuned->batches.size);
        accelerators_write(report, tuned->accelerators);
    }
    put(report, "</td>");
}

static void worker_stages_write(const struct report *report, const struct fm_batch_stages *stages)
{
    for (uint32_t i = 0; i < stages->count; i++) {
        const struct fm_batch_stage *stage = &stages->items[i];
        put(report, i > 0 ? ", " : "");
        escape_n(report, stage->name.data != NULL ? stage->name.data : "", stage->name.size);
        fm_text_append_format(report->text, " %.0f&nbsp;%%", stage->busy * 100);
    }
}

static void worker_write(const struct report *report, const struct fm_batch_worker_status *worker)
{
    put(report, "<tr><th scope=\"row\" class=\"name\">");
    escape_n(report, worker->name.data != NULL ? worker->name.data : "", worker->name.size);
    put(report, worker->connected ? "</th>" : " (not connected)</th>");
    number(report, "<td>", worker->rows_per_minute, "</td>");
    number(report, "<td>", worker->memory_bytes >> 20, " MiB</td>");
    number(report, "<td class=\"text\">", worker->memory.used >> 20, "");
    if (worker->memory.budget > 0) {
        number(report, " of ", worker->memory.budget >> 20, "");
    }
    put(report, " MiB</td>");
    tuned_write(report, &worker->tuned);
    number(report, "<td>", worker->shards, "</td>");
    number(report, "<td>", worker->rows_committed, "</td><td class=\"text\">");
    worker_stages_write(report, &worker->stages);
    put(report, "</td><td class=\"text\">");
    escape_n(report, worker->last_error.data != NULL ? worker->last_error.data : "",
             worker->last_error.size);
    put(report, "</td></tr>\n");
}

static void now_write(const struct report *report)
{
    const struct fm_batch_status *status = report->options->status;
    char words[48];
    if (status == NULL) {
        return;
    }
    struct fm_batch_worker_statuses workers = status->workers;
    struct fm_batch_worker_status worker;
    put(report, "<section><h2>Now</h2>\n<p>");
    put(report, fm_progress_format_rate(status->rows_per_s, words, sizeof(words)));
    put(report, " rows per second");
    if (status->rest_ns != FM_BATCH_REST_UNKNOWN) {
        put(report, ", ");
        put(report, fm_progress_format_duration(status->rest_ns, words, sizeof(words)));
        put(report, " left");
    }
    put(report, status->cancelled  ? "; <strong class=\"late\">cancelled</strong>"
                : status->stopping ? "; <strong class=\"late\">stopping</strong>"
                : status->paused   ? "; <strong class=\"late\">paused</strong>"
                                   : "");
    put(report, "</p>\n<div class=\"wide\" tabindex=\"0\"><table><thead><tr>"
                "<th scope=\"col\" class=\"text\">worker</th><th scope=\"col\">rows/min</th>"
                "<th scope=\"col\">memory</th>"
                "<th scope=\"col\" class=\"text\">its rows' memory</th>"
                "<th scope=\"col\" class=\"text\">tuned</th><th scope=\"col\">shards</th>"
                "<th scope=\"col\">committed</th><th scope=\"col\" class=\"text\">stages, busy"
                "</th><th scope=\"col\" class=\"text\">last failed row</th></tr></thead><tbody>\n");
    while (fm_batch_worker_statuses_next(&workers, &worker)) {
        worker_write(report, &worker);
    }
    put(report, "</tbody></table></div></section>\n");
}

static void facts_write(const struct report *report)
{
    const struct fm_job_look *look = &report->look;
    char begun[32] = "";
    char now[32];
    if (look->begun_wall_ns > 0) {
        fm_os_format_time(look->begun_wall_ns, begun, sizeof(begun));
    }
    fm_os_format_time(fm_os_wall_ns(), now, sizeof(now));
    const struct {
        const char *key;
        const char *value;
    } more[] = {{"job file", look->file},
                {"begun", begun},
                {"finished", look->finished},
                {"this report", now}};
    put(report, "<section><h2>Facts</h2>\n<div class=\"wide\" tabindex=\"0\"><table><tbody>\n");
    for (size_t i = 0; i < sizeof(more) / sizeof(more[0]) + look->fact_count; i++) {
        size_t fact = i - sizeof(more) / sizeof(more[0]);
        bool own = i < sizeof(more) / sizeof(more[0]);
        const char *key = own ? more[i].key : look->facts[fact].key;
        const char *value = own ? more[i].value : look->facts[fact].value;
        if (value[0] != '\0') {
            put(report, "<tr><th scope=\"row\" class=\"text\">");
            escape(report, key);
            put(report, "</th><td class=\"text\">");
            escape(report, value);
            put(report, "</td></tr>\n");
        }
    }
    put(report, "</tbody></table></div>\n");
    if (report->options->price_per_hour > 0) {
        fm_text_append_format(report->text,
                              "<p class=\"soft\">The cost is %.3g worker-hours at %g each: the "
                              "time for which workers were connected.</p>\n",
                              report->worker_hours, report->options->price_per_hour);
    }
    put(report, "</section>\n");
}

static void page_write(const struct report *report)
{
    const struct fm_job_look *look = &report->look;
    const char *name = look->name[0] != '\0' ? look->name : "a job";
    const char *color = look->standing == FM_JOB_COMPLETE  ? "good"
                        : look->standing == FM_JOB_RUNNING ? "good"
                        : look->standing == FM_JOB_UNREADABLE || look->standing == FM_JOB_INCOMPLETE
                            ? "drop"
                            : "late";
    put(report, "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
                "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">");
    if (report->options->refresh_s > 0) {
        fm_text_append_format(report->text, "<meta http-equiv=\"refresh\" content=\"%u\">",
                              report->options->refresh_s);
    }
    put(report, "<title>");
    escape(report, name);
    put(report, ": ");
    put(report, fm_job_standing_name(look->standing));
    put(report, "</title>");
    put(report, style);
    put(report, "</head>\n<body><main>\n<h1>");
    escape(report, name);
    fm_text_append_format(report->text, ": <span class=\"%s\">%s</span></h1>\n<p class=\"soft\">",
                          color, fm_job_standing_name(look->standing));
    escape(report, report->options->directory);
    put(report, "</p>\n");
    tiles_write(report);
    proof_write(report);
    now_write(report);
    charts_write(report);
    stages_write(report);
    losses_write(report);
    shards_write(report);
    letters_write(report);
    facts_write(report);
    put(report, "</main></body></html>\n");
}

int fm_job_report_write(const struct fm_job_report_options *options, struct fm_text *text,
                        struct fm_error *reterr)
{
    struct report *report = fm_alloc_zero(1, sizeof(*report));
    if (report == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for the report");
    }
    report->options = options;
    report->text = text;
    int status = gather(report, reterr);
    if (status == 0) {
        page_write(report);
        status = text->failed ? fm_error_set(reterr, FM_ENOMEM, "out of memory for the report") : 0;
    }
    fm_history_record_deinit(&report->history);
    fm_letter_summary_deinit(&report->letters);
    fm_free(report);
    return status;
}
