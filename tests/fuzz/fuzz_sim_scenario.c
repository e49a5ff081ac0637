/*
 * Fuzzes engines/sim/scenario_file: any text is a scenario that can be run, or an error in words.
 * Never a crash.
 */
#include "engines/sim/scenario_file.h"

#include "tests/fuzz/check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fm_sim_scenario scenario;
    struct fm_error error = {0};
    /* What it names lies in a folder that is not there. */
    int status =
        fm_sim_scenario_load_text("nowhere/fuzz.yaml", (const char *)data, size, &scenario, &error);
    if (status != 0) {
        FUZZ_CHECK(error.status == status);
        FUZZ_CHECK(error.text[0] != '\0');
        fm_sim_scenario_deinit(&scenario);
        return 0;
    }
    FUZZ_CHECK(!fm_fuzz_canary);
    FUZZ_CHECK(fm_sim_scenario_model_count(&scenario) > 0);
    FUZZ_CHECK(fm_sim_scenario_accelerator_count(&scenario) > 0);
    FUZZ_CHECK(fm_sim_scenario_rate_hz(&scenario) >= 0);
    FUZZ_CHECK(scenario.measure_ns > 0 && scenario.type_count > 0);
    for (uint32_t i = 1; i < scenario.event_count; i++) {
        FUZZ_CHECK(scenario.events[i - 1].at_ns <= scenario.events[i].at_ns);
    }
    for (uint32_t i = 0; i < scenario.group_count; i++) {
        FUZZ_CHECK(scenario.groups[i].count > 0 && fm_sim_group_told_ns(&scenario.groups[i]) > 0);
    }
    fm_sim_scenario_deinit(&scenario);
    return 0;
}

size_t fm_fuzz_seed(size_t index, uint8_t *data, size_t capacity)
{
    static const char *const seeds[] = {
        "accelerators: [{count: 4, type: big}, {count: 8, type: small}]\n"
        "seed: 11\nwarmup: 1s\nmeasure: 2s\npolicy: timeout\n"
        "network: {control: 100us, data: 50us, result: 2ms}\n"
        "spread: {sigma: 0.1, seed: 5}\ncancels: {share: 0.2, delay: 3ms}\n"
        "events:\n  - {at: 2s, kind: up, accelerator: 2}\n  - {at: 1s, kind: down, accelerator: 2, "
        "count: 3}\n  - {at: 1s, kind: slow, accelerator: 1, factor: 1.5}\n"
        "models:\n  - name: m\n    count: 3\n    popularity: 0.9\n    slo: 25ms\n    preferred: "
        "[4]\n"
        "    profiles: {big: {alpha: 1ms, beta: 2ms}, small: {table: {1: 4ms, 8: 20ms}}}\n"
        "    arrivals: {kind: gamma, shape: 0.1, rate: 300, period: 10s, steps: [{at: 0s, factor: "
        "1}, {at: 1s, factor: 3, ramp: true}]}\n",
        "accelerators: 1\nmodels: [{name: m, slo: 20ms, profile: {alpha: 1ms, beta: 2ms}, "
        "arrivals: "
        "{kind: loadgen, rate: 100, seed: 16159082839903944936}}]\n",
        "accelerators: 2\nlearn: true\nevents:\n  - {at: 1s, kind: model_added, model: b}\n"
        "  - {at: 2s, kind: reprofiled, model: a.1, factor: 1.3, changes: truth}\n"
        "  - {at: 3s, kind: reprofiled, model: b, profile: {alpha: 1ms, beta: 1ms}}\n"
        "  - {at: 4s, kind: model_removed, model: a}\n"
        "models:\n  - {name: a, count: 2, slo: {20ms: 0.7, 100ms: 0.3}, priority: {0: 0.5, 3: "
        "0.5}, profile: {alpha: 1ms, beta: 2ms}, arrivals: {rate: 5}}\n"
        "  - {name: b, present: false, clients: leave, slo: 1s, profile: {alpha: 1ms, beta: 2ms}, "
        "arrivals: {rate: 5}}\n",
        "accelerators: 4\npipelines:\n  - {name: p, slo: 90ms, stages: [a, b.1, a], split: budget, "
        "arrivals: {rate: 50}}\n  - {name: q, slo: 9s, stages: [b.0], split: even, priority: 1, "
        "arrivals: {kind: gamma, shape: 0.5, rate: 5}}\n"
        "models:\n  - {name: a, profile: {alpha: 1ms, beta: 2ms}}\n"
        "  - {name: b, count: 2, slo: 1s, memory: 1GB, profile: {alpha: 1ms, beta: 2ms}}\n",
        "accelerators: 4\npartition: {clusters: 2, memory: 4GB, every: 1s, threshold: 0.2, gain: "
        "0.1}\nmodels:\n  - {name: b, count: 2, slo: 1s, memory: 1GB, profile: {alpha: 1ms, beta: "
        "2ms}, arrivals: {rate: 1}}\n",
        "{\"accelerators\": 8, \"models\": [{\"name\": \"n\", \"slo\": \"1s\", \"profile\": "
        "{\"alpha\": \"1ms\", \"beta\": 0}, \"arrivals\": {\"kind\": \"mmpp\", \"states\": "
        "[{\"rate\": 1, \"mean\": \"1s\"}, {\"rate\": 9, \"mean\": \"100ms\"}]}}]}",
    };
    return index < sizeof(seeds) / sizeof(seeds[0]) ? fm_fuzz_text(seeds[index], data, capacity)
                                                    : 0;
}

int fm_fuzz_has_canary(void)
{
    return 1;
}
