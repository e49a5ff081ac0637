/*
 * Time, entropy and machine facts from the Linux kernel. See os.h.
 */
#include "host/os/os.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "core/util/assert.h"

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec now;
    int status = clock_gettime(clock, &now);
    FM_ASSERT(status == 0);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t fm_os_now_ns(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

uint64_t fm_os_wall_ns(void)
{
    return clock_ns(CLOCK_REALTIME);
}

uint64_t fm_os_cpu_ns(void)
{
    return clock_ns(CLOCK_PROCESS_CPUTIME_ID);
}

uint64_t fm_os_thread_cpu_ns(void)
{
    return clock_ns(CLOCK_THREAD_CPUTIME_ID);
}

uint64_t fm_os_entropy(void)
{
    uint64_t value = 0;
    if (getrandom(&value, sizeof(value), 0) != (ssize_t)sizeof(value)) {
        /* Only kernels before 3.17 come here; the clock and the pid still make seeds differ between
         * runs. */
        value = fm_os_wall_ns() ^ ((uint64_t)getpid() << 32) ^ fm_os_now_ns();
    }
    return value;
}

/* CPUs that the cgroup's quota allows (rounded up), 0 when there is none. Reads version 2 and
 * version 1 files. */
static uint32_t cgroup_cpu_limit(void)
{
    long long quota = -1;
    long long period = 0;
    FILE *file = fopen("/sys/fs/cgroup/cpu.max", "re");
    if (file != NULL) {
        if (fscanf(file, "%lld %lld", &quota, &period) != 2) {
            quota = -1;
        }
        fclose(file);
    } else {
        static const char *const paths[2] = {"/sys/fs/cgroup/cpu/cpu.cfs_quota_us",
                                             "/sys/fs/cgroup/cpu/cpu.cfs_period_us"};
        long long *values[2] = {&quota, &period};
        for (int i = 0; i < 2; i++) {
            file = fopen(paths[i], "re");
            if (file == NULL || fscanf(file, "%lld", values[i]) != 1) {
                quota = -1;
            }
            if (file != NULL) {
                fclose(file);
            }
        }
    }
    if (quota <= 0 || period <= 0) {
        return 0;
    }
    return (uint32_t)((quota + period - 1) / period);
}

void fm_os_host_name(char *name, size_t size)
{
    FM_ASSERT(size > 0);
    if (gethostname(name, size) != 0) {
        name[0] = '\0';
    }
    name[size - 1] = '\0';
}

uint32_t fm_os_cpu_count(void)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    uint32_t count = 1;
    if (sched_getaffinity(0, sizeof(set), &set) == 0) {
        count = (uint32_t)CPU_COUNT(&set);
    } else {
        long online = sysconf(_SC_NPROCESSORS_ONLN);
        count = online > 0 ? (uint32_t)online : 1;
    }
    uint32_t limit = cgroup_cpu_limit();
    if (limit > 0 && limit < count) {
        count = limit;
    }
    return count > 0 ? count : 1;
}

uint64_t fm_os_memory_peak_of_children(void)
{
    struct rusage usage;
    return getrusage(RUSAGE_CHILDREN, &usage) == 0 ? (uint64_t)usage.ru_maxrss * 1024 : 0;
}

const char *fm_os_environment(const char *name)
{
    return getenv(name);
}

bool fm_os_environment_default(const char *name, const char *value)
{
    return setenv(name, value, 0) == 0;
}

bool fm_os_is_terminal(int descriptor)
{
    return isatty(descriptor) == 1;
}

uint32_t fm_os_terminal_columns(int descriptor)
{
    struct winsize size;
    if (ioctl(descriptor, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) {
        return size.ws_col;
    }
    return 80;
}

void fm_os_format_time(uint64_t wall_ns, char *text, size_t size)
{
    time_t seconds = (time_t)(wall_ns / 1000000000u);
    struct tm parts;
    if (gmtime_r(&seconds, &parts) == NULL) {
        memset(&parts, 0, sizeof(parts));
    }
    char whole[24];
    (void)strftime(whole, sizeof(whole), "%Y-%m-%dT%H:%M:%S", &parts);
    (void)snprintf(text, size, "%s.%03uZ", whole, (unsigned)(wall_ns / 1000000u % 1000u));
}
