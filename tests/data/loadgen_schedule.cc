// Prints the known values of tests/unit/core/load/loadgen_schedule.c from the C++ standard library's own generator and distribution,
// put together as MLPerf LoadGen does for its Server scenario. Not built with Fermata, which is C; repeat it with
//
//   g++ -O2 -o /tmp/loadgen_schedule tests/data/loadgen_schedule.cc && /tmp/loadgen_schedule
//
// A line is a row of the test's table: seed, rate, the first six times, the time of query 100,000, and a hash (FNV-1a, 64 bits,
// little-endian bytes) of the first 100,000 times.
#include <chrono>
#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <random>

static void print_row(uint64_t seed, double rate)
{
    std::mt19937 generator(seed);
    std::exponential_distribution<> gaps(rate);
    std::chrono::nanoseconds time(0);
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    std::printf("{UINT64_C(%" PRIu64 "), %.17g, {", seed, rate);
    for (unsigned i = 0; i < 100000; i++) {
        uint64_t value = static_cast<uint64_t>(time.count());
        if (i < 6) {
            std::printf("%s%" PRIu64, i == 0 ? "" : ", ", value);
        }
        for (unsigned byte = 0; byte < 8; byte++) {
            hash = (hash ^ (value >> (8 * byte) & 0xff)) * UINT64_C(0x100000001b3);
        }
        time += std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::duration<double>(gaps(generator)));
    }
    std::printf("}, %" PRIu64 ", UINT64_C(0x%016" PRIx64 ")},\n", static_cast<uint64_t>(time.count()), hash);
}

int main()
{
    const uint64_t seeds[] = {UINT64_C(3133965575612453542), 0, 1, UINT64_C(0x100000001), UINT64_MAX};
    const double rates[] = {100, 0.001, 1234.5678, 3.3e6};
    for (uint64_t seed : seeds) {
        for (double rate : rates) {
            print_row(seed, rate);
        }
    }
    std::mt19937 generator;
    for (unsigned i = 1; i < 10000; i++) {
        generator();
    }
    std::printf("/* std::mt19937 of the default seed, output 10,000: %" PRIuFAST32 " */\n", generator());
    return 0;
}
