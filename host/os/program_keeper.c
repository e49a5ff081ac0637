/*
 * The keeper of programs. See program_keeper.h.
 *
 * HOW IT WORKS. One thread waits for three things: a call of others (an eventfd), standard error of
 * any program, the end of any program (a pidfd; where there is none, it looks several times a
 * second). A program whose standard error never ends is read no faster than REST_NS for each
 * READ_SIZE: it then waits for us, and not we for it.
 */
#include "host/os/program_keeper.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/util/assert.h"
#include "core/util/error.h"
#include "core/util/memory.h"
#include "core/util/text.h"
#include "host/os/os.h"
#include "host/os/thread.h"

#define REST_NS UINT64_C(10000000)
#define LOOK_NS UINT64_C(50000000)

enum { READ_SIZE = 65536, LAST_READS_MAX = 32 };

enum seat_state { SEAT_EMPTY, SEAT_WANTED, SEAT_REFUSED, SEAT_RUNNING, SEAT_ENDED };

struct seat {
    enum seat_state state;
    const struct fm_program_command *command; /* while wanted: the caller's */
    int status;                               /* refused: why */
    struct fm_error error;
    struct fm_program program; /* running: the thread's own */
    struct fm_program given;   /* what whoever started it gets of it */
    struct fm_program_end end; /* ended */
    uint64_t rest_ns;          /* its standard error is not read before */
    size_t line_size;
    char line[FM_KEEPER_LINE_BYTES_MAX + 1];
};

struct fm_keeper {
    struct fm_keeper_options options;
    struct fm_mutex mutex;
    struct fm_condition changed;
    struct fm_thread thread;
    int call; /* eventfd */
    bool stopping;
    struct pollfd *list; /* the thread's: one for the call, two for each seat */
    char *buffer;        /* the thread's */
    struct seat *seats;
};

/* --- Lines --- */

/* What is no UTF-8, and control characters, become '?': it goes to a log or a terminal. */
static void line_tell(struct fm_keeper *keeper, uint32_t index)
{
    struct seat *seat = &keeper->seats[index];
    size_t size = seat->line_size;
    seat->line_size = 0;
    if (size > 0 && seat->line[size - 1] == '\r') {
        size--;
    }
    for (size_t i = 0; i < size;) {
        size_t step = fm_utf8_sequence(seat->line + i, size - i);
        unsigned char first = (unsigned char)seat->line[i];
        if (step == 0 || (first < ' ' && first != '\t') || first == 127) {
            seat->line[i] = '?';
            step = 1;
        }
        i += step;
    }
    seat->line[size] = '\0';
    if (size > 0) {
        keeper->options.line(keeper->options.context, index, seat->given.process, seat->line);
    }
}

static void lines_cut(struct fm_keeper *keeper, uint32_t index, size_t size)
{
    struct seat *seat = &keeper->seats[index];
    for (size_t i = 0; i < size; i++) {
        if (keeper->buffer[i] == '\n') {
            line_tell(keeper, index);
            continue;
        }
        if (seat->line_size == FM_KEEPER_LINE_BYTES_MAX) {
            line_tell(keeper, index);
        }
        seat->line[seat->line_size++] = keeper->buffer[i];
    }
}

/* False when there is nothing more to be read now. The lock is not held: what a seat has of a
 * running program is the thread's own. */
static bool error_read(struct fm_keeper *keeper, uint32_t index)
{
    struct seat *seat = &keeper->seats[index];
    ssize_t got = -1;
    do {
        got = read(seat->program.error, keeper->buffer, READ_SIZE);
    } while (got < 0 && errno == EINTR);
    if (got > 0) {
        lines_cut(keeper, index, (size_t)got);
        seat->rest_ns = got == READ_SIZE ? fm_os_now_ns() + REST_NS : 0;
        return true;
    }
    if (got == 0 || errno != EAGAIN) {
        fm_program_descriptor_close(&seat->program.error);
    }
    return false;
}

/* --- The thread --- */

static void start_wanted_locked(struct fm_keeper *keeper, struct seat *seat)
{
    seat->status = fm_program_start(seat->command, &seat->program, &seat->error);
    seat->state = seat->status == 0 ? SEAT_RUNNING : SEAT_REFUSED;
    seat->given = seat->program;
    seat->given.error = -1;
    seat->given.exit = -1;
    seat->line_size = 0;
    seat->rest_ns = 0;
    fm_condition_broadcast(&keeper->changed);
}

/* Has the seat's program ended? Then its last lines are told before anybody hears of it. */
static void end_look(struct fm_keeper *keeper, uint32_t index)
{
    struct seat *seat = &keeper->seats[index];
    struct fm_program_end end;
    fm_mutex_lock(&keeper->mutex);
    bool ended = fm_program_reap(&seat->program, &end);
    fm_mutex_unlock(&keeper->mutex);
    if (!ended) {
        return;
    }
    /* Something of it may live on in another session, and write for ever. */
    for (int i = 0; i < LAST_READS_MAX && seat->program.error >= 0; i++) {
        if (!error_read(keeper, index)) {
            break;
        }
    }
    line_tell(keeper, index);
    fm_program_descriptor_close(&seat->program.error);
    fm_program_descriptor_close(&seat->program.exit);
    fm_mutex_lock(&keeper->mutex);
    seat->end = end;
    seat->state = SEAT_ENDED;
    fm_condition_broadcast(&keeper->changed);
    fm_mutex_unlock(&keeper->mutex);
}

/* What to wait for, and until when: returns the time-out of poll(). The lock is held. */
static int list_make_locked(struct fm_keeper *keeper, uint64_t now_ns)
{
    uint64_t wait_ns = UINT64_MAX;
    keeper->list[0] = (struct pollfd){.fd = keeper->call, .events = POLLIN};
    for (uint32_t i = 0; i < keeper->options.seats; i++) {
        struct seat *seat = &keeper->seats[i];
        struct pollfd *entry = &keeper->list[1 + 2 * i];
        entry[0] = (struct pollfd){.fd = -1, .events = POLLIN};
        entry[1] = entry[0];
        if (seat->state != SEAT_RUNNING) {
            continue;
        }
        bool rests = seat->rest_ns > now_ns;
        entry[0].fd = rests ? -1 : seat->program.error;
        entry[1].fd = seat->program.exit;
        uint64_t seat_ns = rests                    ? seat->rest_ns - now_ns
                           : seat->program.exit < 0 ? LOOK_NS
                                                    : UINT64_MAX;
        wait_ns = seat_ns < wait_ns ? seat_ns : wait_ns;
    }
    return wait_ns == UINT64_MAX ? -1 : (int)(wait_ns / 1000000 + 1);
}

static void seats_work(struct fm_keeper *keeper)
{
    for (uint32_t i = 0; i < keeper->options.seats; i++) {
        struct seat *seat = &keeper->seats[i];
        const struct pollfd *entry = &keeper->list[1 + 2 * i];
        if (entry[0].revents != 0) {
            (void)error_read(keeper, i);
        }
        if (entry[1].revents != 0 || (seat->program.process > 0 && seat->program.exit < 0)) {
            end_look(keeper, i);
        }
    }
}

static void keeper_main(void *argument)
{
    struct fm_keeper *keeper = argument;
    fm_mutex_lock(&keeper->mutex);
    while (!keeper->stopping) {
        for (uint32_t i = 0; i < keeper->options.seats; i++) {
            if (keeper->seats[i].state == SEAT_WANTED) {
                start_wanted_locked(keeper, &keeper->seats[i]);
            }
        }
        int wait_ms = list_make_locked(keeper, fm_os_now_ns());
        fm_mutex_unlock(&keeper->mutex);
        if (poll(keeper->list, 1 + 2 * (nfds_t)keeper->options.seats, wait_ms) > 0 &&
            keeper->list[0].revents != 0) {
            uint64_t calls = 0;
            (void)!read(keeper->call, &calls, sizeof(calls));
        }
        seats_work(keeper);
        fm_mutex_lock(&keeper->mutex);
    }
    fm_mutex_unlock(&keeper->mutex);
}

static void call(struct fm_keeper *keeper)
{
    const uint64_t one = 1;
    (void)!write(keeper->call, &one, sizeof(one));
}

/* --- For others --- */

int fm_keeper_start(struct fm_keeper *keeper, uint32_t index,
                    const struct fm_program_command *command, struct fm_program *ret_program,
                    struct fm_error *reterr)
{
    struct seat *seat = &keeper->seats[index];
    fm_mutex_lock(&keeper->mutex);
    FM_ASSERT(seat->state == SEAT_EMPTY);
    seat->command = command;
    seat->state = SEAT_WANTED;
    call(keeper);
    while (seat->state == SEAT_WANTED) {
        fm_condition_wait(&keeper->changed, &keeper->mutex);
    }
    seat->command = NULL;
    int status = seat->state == SEAT_REFUSED ? seat->status : 0;
    if (status != 0) {
        seat->state = SEAT_EMPTY;
        (void)fm_error_set(reterr, status, "%s", seat->error.text);
    } else {
        *ret_program = seat->given;
    }
    fm_mutex_unlock(&keeper->mutex);
    return status;
}

bool fm_keeper_runs(struct fm_keeper *keeper, uint32_t index)
{
    fm_mutex_lock(&keeper->mutex);
    bool runs = keeper->seats[index].state == SEAT_RUNNING;
    fm_mutex_unlock(&keeper->mutex);
    return runs;
}

bool fm_keeper_end(struct fm_keeper *keeper, uint32_t index, uint64_t kill_at_ns,
                   struct fm_program_end *ret_end)
{
    struct seat *seat = &keeper->seats[index];
    fm_mutex_lock(&keeper->mutex);
    FM_ASSERT(seat->state == SEAT_RUNNING || seat->state == SEAT_ENDED);
    while (seat->state == SEAT_RUNNING &&
           fm_condition_wait_until(&keeper->changed, &keeper->mutex, kill_at_ns)) {
    }
    bool killed = seat->state == SEAT_RUNNING;
    if (killed) {
        fm_program_kill(&seat->program);
    }
    while (seat->state == SEAT_RUNNING) {
        fm_condition_wait(&keeper->changed, &keeper->mutex);
    }
    *ret_end = seat->end;
    seat->state = SEAT_EMPTY;
    fm_mutex_unlock(&keeper->mutex);
    return killed;
}

/* --- Life --- */

int fm_keeper_create(const struct fm_keeper_options *options, struct fm_keeper **ret_keeper,
                     struct fm_error *reterr)
{
    struct fm_keeper *keeper = fm_alloc_zero(1, sizeof(*keeper));
    if (keeper == NULL) {
        return fm_error_set(reterr, FM_ENOMEM, "out of memory for the keeper of programs");
    }
    keeper->options = *options;
    fm_mutex_init(&keeper->mutex);
    fm_condition_init(&keeper->changed);
    keeper->seats = fm_alloc_zero(options->seats, sizeof(keeper->seats[0]));
    keeper->list = fm_alloc_zero(1 + 2 * (size_t)options->seats, sizeof(keeper->list[0]));
    keeper->buffer = fm_alloc(READ_SIZE);
    keeper->call = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int status = 0;
    if (keeper->seats == NULL || keeper->list == NULL || keeper->buffer == NULL) {
        status = fm_error_set(reterr, FM_ENOMEM, "out of memory for the keeper of programs");
    } else if (keeper->call < 0) {
        status = fm_error_set(reterr, FM_EIO, "cannot make an event: %s", strerror(errno));
    } else {
        status = fm_thread_start(&keeper->thread, "fm-programs", keeper_main, keeper);
        if (status != 0) {
            (void)fm_error_set(reterr, status, "cannot start the keeper of programs: %s",
                               fm_status_text(status));
        }
    }
    if (status != 0) {
        fm_keeper_destroy(keeper);
        return status;
    }
    *ret_keeper = keeper;
    return 0;
}

void fm_keeper_destroy(struct fm_keeper *keeper)
{
    if (keeper == NULL) {
        return;
    }
    for (uint32_t i = 0; keeper->thread.running && i < keeper->options.seats; i++) {
        struct fm_program_end end;
        if (keeper->seats[i].state != SEAT_EMPTY) {
            (void)fm_keeper_end(keeper, i, 0, &end);
        }
    }
    fm_mutex_lock(&keeper->mutex);
    keeper->stopping = true;
    fm_mutex_unlock(&keeper->mutex);
    if (keeper->thread.running) {
        call(keeper);
        fm_thread_join(&keeper->thread);
    }
    fm_program_descriptor_close(&keeper->call);
    fm_condition_deinit(&keeper->changed);
    fm_mutex_deinit(&keeper->mutex);
    fm_free(keeper->buffer);
    fm_free(keeper->list);
    fm_free(keeper->seats);
    fm_free(keeper);
}
