/*
 * The report page. See page.h.
 */
#include "engines/sim/page.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "core/plot/axis.h"
#include "core/plot/markup.h"
#include "core/proto/json.h"
#include "core/util/assert.h"
#include "engines/sim/report.h"

#define WIDTH    720.0
#define HEIGHT   260.0
#define LEFT     64.0
#define RIGHT    16.0
#define TOP      12.0
#define BOTTOM   40.0
#define BARS_MAX 256u

/* A chart's data range; both begin at 0. */
struct chart {
    double x_max;
    double y_max;
};

static const char *const colors[] = {"#2a78d6", "#d6672a", "#2a9d5c", "#a03ac0", "#b8860b",
                                     "#c2185b", "#00838f", "#6d4c41", "#757575"};

static const char head[] =
    "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
    "<meta name=\"viewport\" content=\"width=device-width\"><title>fermata sim</title><style>\n"
    ":root{color-scheme:light dark;--line:#8884}\n"
    "body{font:15px/1.5 system-ui,sans-serif;max-width:760px;margin:2em auto;padding:0 1em}\n"
    "h1{font-size:1.5em}h2{font-size:1.1em;margin:2em 0 .3em}\n"
    "svg{width:100%;height:auto}svg text{font-size:11px;fill:currentColor}\n"
    "table{border-collapse:collapse}td,th{padding:.15em .8em .15em 0;text-align:right}\n"
    "td:first-child,th:first-child{text-align:left}\n"
    "p{margin:.3em 0}.note{opacity:.7}canvas{width:100%;height:360px;border:1px solid var(--line);"
    "cursor:grab;touch-action:none}\n"
    "</style></head><body>\n";

/* Draws the spans; wheel zooms around the pointer, dragging moves, a double click shows all. */
static const char script[] =
    "<script>\n"
    "const c=document.getElementById('timeline'),g=c.getContext('2d'),"
    "note=document.getElementById('hover');\n"
    "const end=Math.max(...D.spans.map(s=>s[1]+s[2]),1),rows=D.rows.length,"
    "place=new Map(D.rows.map((a,i)=>[a,i]));\n"
    "let from=0,to=Math.min(end,Math.max(2e5,end/40)),drag=null;\n"
    "function draw(){const r=devicePixelRatio||1,w=c.clientWidth,h=c.clientHeight,"
    "rh=(h-18)/Math.max(rows,1),k=w/(to-from);\n"
    "c.width=w*r;c.height=h*r;g.setTransform(r,0,0,r,0,0);g.clearRect(0,0,w,h);\n"
    "for(const[a,t,d,m,n,ok]of D.spans){if(t+d<from||t>to)continue;const x=(t-from)*k,"
    "y=place.get(a)*rh;\n"
    "g.globalAlpha=ok?.85:.3;g.fillStyle=`hsl(${m*137.5%360} 60% 50%)`;"
    "g.fillRect(x,y,Math.max(d*k-.5,.5),Math.max(rh-1,.5));\n"
    "if(d*k>22&&rh>11){g.globalAlpha=1;g.fillStyle='#fff';g.font='10px sans-serif';"
    "g.fillText(n,x+3,y+rh/2+3)}}\n"
    "g.globalAlpha=1;g.fillStyle=getComputedStyle(c).color;g.font='11px sans-serif';\n"
    "const step=10**Math.floor(Math.log10((to-from)/4));"
    "for(let t=Math.ceil(from/step)*step;t<to;t+=step*2)g.fillText((t/1e3).toFixed(step<1e3?2:0)+"
    "' ms',(t-from)*k,h-4)}\n"
    "function at(e){const b=c.getBoundingClientRect();return from+(e.clientX-b.left)/b.width*"
    "(to-from)}\n"
    "c.onwheel=e=>{e.preventDefault();const t=at(e),f=Math.exp(e.deltaY/400);"
    "from=Math.max(0,t-(t-from)*f);to=Math.min(end,t+(to-t)*f);"
    "if(to-from<100)to=from+100;draw()};\n"
    "c.onpointerdown=e=>{drag=[e.clientX,from,to];c.setPointerCapture(e.pointerId)};"
    "c.onpointerup=()=>drag=null;\n"
    "c.onpointermove=e=>{if(drag){const w=drag[2]-drag[1];let f=drag[1]-(e.clientX-drag[0])/"
    "c.clientWidth*w;f=Math.max(0,Math.min(end-w,f));from=f;to=f+w;draw();return}\n"
    "const t=at(e),b=c.getBoundingClientRect(),a=D.rows[Math.floor((e.clientY-b.top)/((b.height-18)"
    "/rows))],s=D.spans.find(s=>s[0]===a&&s[1]<=t&&t<=s[1]+s[2]);\n"
    "note.textContent=s?`accelerator ${s[0]}: ${D.models[s[3]]||'model '+s[3]}, batch of ${s[4]}, "
    "${(s[1]/1e3).toFixed(2)} to ${((s[1]+s[2])/1e3).toFixed(2)} ms${s[5]?'':' (lost)'}`:' '};\n"
    "c.ondblclick=()=>{from=0;to=end;draw()};onresize=draw;draw();\n"
    "</script>\n";

/* --- charts ------------------------------------------------------------------------------------
 */

static double x_of(const struct chart *chart, double x)
{
    return LEFT + x / chart->x_max * (WIDTH - LEFT - RIGHT);
}

static double y_of(const struct chart *chart, double y)
{
    double share = y / chart->y_max;
    return HEIGHT - BOTTOM - (share < 1 ? share : 1) * (HEIGHT - TOP - BOTTOM);
}

static struct chart chart_begin(struct fm_text *text, double x_max, double y_max,
                                const char *x_label, const char *y_label)
{
    struct chart chart = {.x_max = x_max > 0 ? x_max : 1, .y_max = y_max > 0 ? y_max : 1};
    fm_text_append_format(text,
                          "<svg viewBox=\"0 0 %g %g\" role=\"img\" aria-label=\"%s over %s\">\n",
                          WIDTH, HEIGHT, y_label, x_label);
    double x_step = fm_axis_step(chart.x_max, 8);
    for (double x = 0; x <= chart.x_max * 1.0001; x += x_step) {
        fm_text_append_format(text,
                              "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%g</text>\n",
                              x_of(&chart, x), HEIGHT - BOTTOM + 15, x);
    }
    double y_step = fm_axis_step(chart.y_max, 5);
    for (double y = 0; y <= chart.y_max * 1.0001; y += y_step) {
        fm_text_append_format(text,
                              "<path d=\"M%g %.1fH%g\" stroke=\"var(--line)\"/><text x=\"%g\" "
                              "y=\"%.1f\" text-anchor=\"end\">%g</text>\n",
                              LEFT, y_of(&chart, y), WIDTH - RIGHT, LEFT - 6, y_of(&chart, y) + 4,
                              y);
    }
    fm_text_append_format(text,
                          "<text x=\"%g\" y=\"%g\" text-anchor=\"middle\">%s</text><text x=\"12\" "
                          "y=\"%g\" transform=\"rotate(-90 12 %g)\" "
                          "text-anchor=\"middle\">%s</text>\n",
                          (LEFT + WIDTH) / 2, HEIGHT - 6, x_label, HEIGHT / 2, HEIGHT / 2, y_label);
    return chart;
}

static void chart_end(struct fm_text *text)
{
    fm_text_append_string(text, "</svg>\n");
}

static void bar(struct fm_text *text, const struct chart *chart, double x, double width, double y,
                const char *title)
{
    double left = x_of(chart, x);
    fm_text_append_format(text,
                          "<rect x=\"%.2f\" y=\"%.2f\" width=\"%.2f\" height=\"%.2f\" "
                          "fill=\"%s\"><title>%s</title></rect>\n",
                          left, y_of(chart, y), (x_of(chart, x + width) - left) * 0.9,
                          HEIGHT - BOTTOM - y_of(chart, y), colors[0], title);
}

/* --- sections ----------------------------------------------------------------------------------
 */

/* One line a policy: `bad` chooses the bad rate (in percent), else goodput. */
static void curve_write(const struct fm_sim_page *page, bool bad, struct fm_text *text)
{
    uint32_t count = page->curve_policies * page->curve_loads;
    double x_max = 0;
    double y_max = bad ? 10 : 0;
    for (uint32_t i = 0; i < count; i++) {
        const struct fm_sim_summary *summary = &page->curve[i].summary;
        x_max = summary->offered_rps > x_max ? summary->offered_rps : x_max;
        double y = bad ? summary->bad_rate * 100 : summary->goodput_rps;
        y_max = y > y_max ? y : y_max;
    }
    struct chart chart = chart_begin(text, x_max * 1.02, y_max * 1.05, "offered, requests/s",
                                     bad ? "bad, %" : "goodput, requests/s");
    if (!bad) {
        double edge = chart.y_max < chart.x_max ? chart.y_max : chart.x_max;
        fm_text_append_format(text,
                              "<path d=\"M%.1f %.1fL%.1f %.1f\" stroke=\"currentColor\" "
                              "opacity=\".4\" stroke-dasharray=\"3 3\"/>\n",
                              x_of(&chart, 0), y_of(&chart, 0), x_of(&chart, edge),
                              y_of(&chart, edge));
    }
    for (uint32_t i = 0; i < page->curve_policies; i++) {
        const char *color = colors[i % FM_COUNT_OF(colors)];
        fm_text_append_format(text, "<path fill=\"none\" stroke-width=\"2\" stroke=\"%s\" d=\"",
                              color);
        for (uint32_t j = 0; j < page->curve_loads; j++) {
            const struct fm_sim_summary *summary = &page->curve[i * page->curve_loads + j].summary;
            fm_text_append_format(
                text, "%c%.1f %.1f", j == 0 ? 'M' : 'L', x_of(&chart, summary->offered_rps),
                y_of(&chart, bad ? summary->bad_rate * 100 : summary->goodput_rps));
        }
        fm_text_append_format(text, "\"/><text x=\"%g\" y=\"%g\" style=\"fill:%s\">%s</text>\n",
                              LEFT + 12, TOP + 14 + 14.0 * i, color,
                              fm_sched_policy_name(page->curve[i * page->curve_loads].policy));
    }
    chart_end(text);
}

static void batches_write(const struct fm_sim_result *result, struct fm_text *text)
{
    uint32_t largest = 1;
    uint64_t most = 0;
    for (uint32_t i = 1; i <= result->batch_max; i++) {
        largest = result->batch_sizes[i] > 0 ? i : largest;
    }
    /* Large batches share bars. */
    uint32_t width = (largest + BARS_MAX - 1) / BARS_MAX;
    uint64_t bars[BARS_MAX] = {0};
    for (uint32_t i = 1; i <= largest; i++) {
        uint64_t *place = &bars[(i - 1) / width];
        *place += result->batch_sizes[i];
        most = *place > most ? *place : most;
    }
    struct chart chart = chart_begin(text, largest + 1, (double)most, "batch size", "batches");
    for (uint32_t i = 0; i < BARS_MAX && i * width < largest; i++) {
        char title[80];
        (void)snprintf(title, sizeof title, "%" PRIu32 ": %" PRIu64 " batches", i * width + 1,
                       bars[i]);
        bar(text, &chart, i * width + 0.5, width, (double)bars[i], title);
    }
    chart_end(text);
}

/* How many are busy, and how many are up, over time. */
static void busy_write(const struct fm_sim_result *result, struct fm_text *text)
{
    double seconds = (double)result->bucket_ns / 1e9;
    struct chart chart = chart_begin(text, seconds * FM_SIM_TIMELINE_BUCKETS,
                                     result->accelerator_count, "seconds", "accelerators");
    fm_text_append_format(text, "<path fill=\"%s\" fill-opacity=\".6\" d=\"M%.1f %.1f", colors[0],
                          x_of(&chart, 0), y_of(&chart, 0));
    for (uint32_t i = 0; i < FM_SIM_TIMELINE_BUCKETS; i++) {
        double busy = (double)result->timeline[i].busy_ns / (double)result->bucket_ns;
        fm_text_append_format(text, "L%.1f %.2fH%.1f", x_of(&chart, seconds * i),
                              y_of(&chart, busy), x_of(&chart, seconds * (i + 1)));
    }
    fm_text_append_format(text, "V%.1fZ\"/>\n<path fill=\"none\" stroke=\"%s\" d=\"",
                          y_of(&chart, 0), colors[1]);
    for (uint32_t i = 0; i < FM_SIM_TIMELINE_BUCKETS; i++) {
        double up = (double)result->timeline[i].up_ns / (double)result->bucket_ns;
        fm_text_append_format(text, "%c%.1f %.2fH%.1f", i == 0 ? 'M' : 'L',
                              x_of(&chart, seconds * i), y_of(&chart, up),
                              x_of(&chart, seconds * (i + 1)));
    }
    fm_text_append_format(text,
                          "\"/><text x=\"%g\" y=\"9\" style=\"fill:%s\">busy</text><text x=\"%g\" "
                          "y=\"9\" style=\"fill:%s\">up</text>\n",
                          LEFT, colors[0], LEFT + 36, colors[1]);
    double warmup = x_of(&chart, (double)result->scenario->warmup_ns / 1e9);
    fm_text_append_format(text,
                          "<path d=\"M%.1f %gV%g\" stroke=\"currentColor\" "
                          "stroke-dasharray=\"3 3\"/><text x=\"%.1f\" y=\"%g\">measured</text>\n",
                          warmup, TOP, HEIGHT - BOTTOM, warmup + 4, TOP + 10);
    chart_end(text);
}

/* Requests that arrive, and those of them that come to nothing, over time. */
static void load_write(const struct fm_sim_result *result, struct fm_text *text)
{
    double seconds = (double)result->bucket_ns / 1e9;
    uint64_t most = 0;
    for (uint32_t i = 0; i < FM_SIM_TIMELINE_BUCKETS; i++) {
        most = result->timeline[i].requests > most ? result->timeline[i].requests : most;
    }
    struct chart chart = chart_begin(text, seconds * FM_SIM_TIMELINE_BUCKETS,
                                     (double)most / seconds, "seconds", "requests/s");
    for (unsigned bad = 0; bad < 2; bad++) {
        fm_text_append_format(text, "<path fill=\"none\" stroke=\"%s\" d=\"", colors[bad]);
        for (uint32_t i = 0; i < FM_SIM_TIMELINE_BUCKETS; i++) {
            uint64_t count = bad ? result->timeline[i].bad : result->timeline[i].requests;
            fm_text_append_format(text, "%c%.1f %.2f", i == 0 ? 'M' : 'L',
                                  x_of(&chart, seconds * (i + 0.5)),
                                  y_of(&chart, (double)count / seconds));
        }
        fm_text_append_format(text, "\"/><text x=\"%g\" y=\"%g\" style=\"fill:%s\">%s</text>\n",
                              LEFT + 12, TOP + 14 + 14.0 * bad, colors[bad],
                              bad ? "bad, by time of arrival" : "arriving");
    }
    chart_end(text);
}

/* How busy each is: low numbers first, as the load needs them. */
static void shares_write(const struct fm_sim_result *result, struct fm_text *text)
{
    uint32_t width = (result->accelerator_count + BARS_MAX - 1) / BARS_MAX;
    struct chart chart =
        chart_begin(text, result->accelerator_count, 100, "accelerator, by number", "busy, %");
    for (uint32_t i = 0; i < result->accelerator_count; i += width) {
        double busy_ns = 0;
        uint32_t count = 0;
        for (; count < width && i + count < result->accelerator_count; count++) {
            busy_ns += (double)result->accelerators[i + count].busy_ns;
        }
        double busy = busy_ns / count / (double)result->scenario->measure_ns * 100;
        char title[80];
        (void)snprintf(title, sizeof title, "accelerator %" PRIu32 ": %.1f%% busy", i, busy);
        bar(text, &chart, i, width, busy, title);
    }
    chart_end(text);
}

/* The spans as data for the script. A name cannot end the script: '<' is escaped. */
static void data_write(const struct fm_sim_page *page, struct fm_text *text)
{
    const struct fm_sim_result *result = page->result;
    struct fm_text json = {0};
    struct fm_json_writer writer;
    fm_json_writer_init(&writer, &json);
    fm_json_array_begin(&writer);
    for (uint32_t i = 0; i < result->model_count && i < 1000; i++) {
        char name[160];
        fm_json_string(&writer, fm_sim_scenario_model_name(result->scenario, i, name, sizeof name));
    }
    fm_json_array_end(&writer);
    fm_text_append_string(text, "<script>const D={models:");
    for (size_t i = 0; i < json.length; i++) {
        if (json.data[i] == '<') {
            fm_text_append_string(text, "\\u003c");
        } else {
            fm_text_append_char(text, json.data[i]);
        }
    }
    text->failed = text->failed || json.failed;
    fm_text_deinit(&json);
    fm_text_append_string(text, ",rows:[");
    for (uint32_t i = 0; i < result->accelerator_count; i++) {
        if (result->accelerators[i].batches > 0) {
            fm_text_append_format(text, "%" PRIu32 ",", i);
        }
    }
    fm_text_append_string(text, "],spans:[");
    for (uint32_t i = 0; i < page->recording->span_count; i++) {
        const struct fm_sim_span *span = &page->recording->spans[i];
        if (result->accelerators[span->accelerator].batches > 0) {
            fm_text_append_format(
                text, "[%" PRIu32 ",%" PRIu64 ",%" PRIu64 ",%" PRIu32 ",%" PRIu32 ",%d],",
                span->accelerator, span->begin_ns / 1000, (span->end_ns - span->begin_ns) / 1000,
                span->model, span->count, span->completed ? 1 : 0);
        }
    }
    fm_text_append_string(text, "]};</script>\n");
}

static void summary_write(const struct fm_sim_result *result, struct fm_text *text)
{
    struct fm_text table = {0};
    fm_text_append_string(text, "<h1>Simulation of ");
    fm_markup_escape_string(text,
                            result->scenario->file != NULL ? result->scenario->file : "a scenario");
    fm_text_append_string(text, "</h1>\n<pre>");
    fm_sim_report_table(result, &table);
    fm_markup_escape_string(text, table.data != NULL ? table.data : "");
    text->failed = text->failed || table.failed;
    fm_text_deinit(&table);
    fm_text_append_string(text, "</pre>\n");
}

void fm_sim_page_write(const struct fm_sim_page *page, struct fm_text *text)
{
    fm_text_append_string(text, head);
    summary_write(page->result, text);
    fm_text_append_string(text, "<h2>Goodput over load</h2>\n");
    curve_write(page, false, text);
    fm_text_append_string(text, "<h2>Bad rate over load</h2>\n");
    curve_write(page, true, text);
    fm_text_append_string(text, "<h2>Batch sizes</h2>\n");
    batches_write(page->result, text);
    fm_text_append_string(text, "<h2>Accelerators over time</h2>\n");
    busy_write(page->result, text);
    load_write(page->result, text);
    fm_text_append_string(text, "<h2>Who works</h2>\n");
    shares_write(page->result, text);
    fm_text_append_string(text, "<h2>Timeline of the accelerators</h2>\n"
                                "<p class=\"note\">Wheel: zoom; drag: move; double click: all. A "
                                "colour is a model, the number a batch's size.");
    if (page->recording->omitted > 0) {
        fm_text_append_format(text, " The first %" PRIu32 " batches are shown.",
                              page->recording->span_count);
    }
    fm_text_append_string(text, "</p>\n<canvas id=\"timeline\"></canvas><p id=\"hover\">&nbsp;</p>"
                                "\n");
    data_write(page, text);
    fm_text_append_string(text, script);
    fm_text_append_string(text, "</body></html>\n");
}
