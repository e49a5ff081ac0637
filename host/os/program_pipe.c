/*
 * An exchange with a program. See program_pipe.h.
 *
 * HOW IT WORKS. Both descriptors are not blocking. What can be written is written, what is there is
 * read, and only when neither goes on the thread sleeps until one does. Small reads go through a
 * buffer, so that an answer of many heads is one system call; large ones go to their place.
 */
#include "host/os/program_pipe.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "core/util/error.h"
#include "host/os/os.h"

enum { PIECES_AT_ONCE = 64, BUFFER_SIZE = 16384 };

struct exchange {
    const struct fm_program *program;
    const struct fm_process_piece *pieces;
    size_t piece_count;
    size_t piece;  /* that is being written */
    size_t offset; /* in it */
    struct fm_process_answer *answer;
    bool answered;
    enum fm_exchange_end end;
};

/* Each of these: true when something has happened, false when it would block or is over; `end` is
 * set to something else than FM_EXCHANGE_DONE where the exchange is over. */

static bool fail(struct exchange *exchange, const char *what)
{
    exchange->end = FM_EXCHANGE_FAILED;
    (void)fm_error_set(&exchange->answer->error, FM_EIO, "cannot %s: %s", what, strerror(errno));
    return false;
}

static bool write_some(struct exchange *exchange)
{
    struct iovec list[PIECES_AT_ONCE];
    int count = 0;
    for (size_t i = exchange->piece; i < exchange->piece_count && count < PIECES_AT_ONCE; i++) {
        size_t skip = i == exchange->piece ? exchange->offset : 0;
        list[count].iov_base = (char *)exchange->pieces[i].data + skip;
        list[count++].iov_len = exchange->pieces[i].size - skip;
    }
    if (count == 0) {
        return false;
    }
    ssize_t written = writev(exchange->program->input, list, count);
    if (written < 0) {
        if (errno == EAGAIN || errno == EINTR) {
            return errno == EINTR;
        }
        if (errno != EPIPE) {
            return fail(exchange, "write to it");
        }
        exchange->end = FM_EXCHANGE_CLOSED;
        return false;
    }
    size_t left = (size_t)written;
    while (left > 0) {
        size_t rest = exchange->pieces[exchange->piece].size - exchange->offset;
        if (left < rest) {
            exchange->offset += left;
            break;
        }
        left -= rest;
        exchange->offset = 0;
        exchange->piece++;
    }
    return true;
}

/* The answer takes what is in the buffer. */
static bool buffer_take(struct exchange *exchange, const char *buffer, size_t size)
{
    struct fm_process_answer *answer = exchange->answer;
    for (size_t at = 0; at < size;) {
        void *place = NULL;
        size_t wanted = 0;
        fm_process_answer_place(answer, &place, &wanted);
        if (wanted == 0) {
            exchange->end = FM_EXCHANGE_GARBAGE;
            (void)fm_error_set(&answer->error, FM_ECORRUPT,
                               "it wrote something behind the end of its answer");
            return false;
        }
        size_t part = wanted < size - at ? wanted : size - at;
        memcpy(place, buffer + at, part);
        if (fm_process_answer_advance(answer, part) != 0) {
            exchange->end = FM_EXCHANGE_GARBAGE;
            return false;
        }
        at += part;
    }
    return true;
}

static bool read_some(struct exchange *exchange)
{
    char buffer[BUFFER_SIZE];
    struct fm_process_answer *answer = exchange->answer;
    void *place = NULL;
    size_t wanted = 0;
    fm_process_answer_place(answer, &place, &wanted);
    bool direct = wanted >= sizeof(buffer);
    ssize_t got =
        read(exchange->program->output, direct ? place : buffer, direct ? wanted : sizeof(buffer));
    if (got < 0) {
        return errno == EINTR || (errno != EAGAIN && fail(exchange, "read from it"));
    }
    if (got == 0) {
        exchange->end = FM_EXCHANGE_CLOSED;
        return false;
    }
    if (!direct) {
        if (!buffer_take(exchange, buffer, (size_t)got)) {
            return false;
        }
    } else if (fm_process_answer_advance(answer, (size_t)got) != 0) {
        exchange->end = FM_EXCHANGE_GARBAGE;
        return false;
    }
    fm_process_answer_place(answer, &place, &wanted);
    exchange->answered = wanted == 0;
    return true;
}

/* False: the deadline has passed. */
static bool wait_some(struct exchange *exchange, uint64_t deadline_ns)
{
    uint64_t now_ns = fm_os_now_ns();
    if (now_ns >= deadline_ns) {
        return false;
    }
    struct pollfd list[2] = {
        {.fd = exchange->answered ? -1 : exchange->program->output, .events = POLLIN},
        {.fd = exchange->piece == exchange->piece_count ? -1 : exchange->program->input,
         .events = POLLOUT}};
    uint64_t left_ms = (deadline_ns - now_ns) / 1000000 + 1;
    (void)poll(list, 2, left_ms < INT32_MAX ? (int)left_ms : INT32_MAX);
    return true;
}

static void work(struct exchange *exchange, uint64_t deadline_ns)
{
    while (exchange->end == FM_EXCHANGE_DONE &&
           (exchange->piece < exchange->piece_count || !exchange->answered)) {
        bool written = exchange->piece < exchange->piece_count && write_some(exchange);
        /* Right behind the whole request no answer can be there yet. */
        bool read = exchange->end == FM_EXCHANGE_DONE && !written && !exchange->answered &&
                    read_some(exchange);
        if (exchange->end == FM_EXCHANGE_DONE &&
            (exchange->piece < exchange->piece_count || !exchange->answered) &&
            (written ? exchange->piece == exchange->piece_count : !read) &&
            !wait_some(exchange, deadline_ns)) {
            exchange->end = FM_EXCHANGE_LATE;
        }
    }
}

/* It does not read any more, but may have answered before: with a refusal, perhaps. */
static void last_words(struct exchange *exchange)
{
    exchange->end = FM_EXCHANGE_DONE;
    while (!exchange->answered && read_some(exchange)) {
    }
    if (exchange->end == FM_EXCHANGE_DONE && !exchange->answered) {
        exchange->end = FM_EXCHANGE_CLOSED;
    }
}

enum fm_exchange_end fm_program_exchange(const struct fm_program *program,
                                         const struct fm_process_piece *pieces, size_t piece_count,
                                         struct fm_process_answer *answer, uint64_t deadline_ns)
{
    struct exchange exchange = {
        .program = program, .pieces = pieces, .piece_count = piece_count, .answer = answer};
    sigset_t pipe_signal;
    sigset_t before;
    sigset_t pending;
    sigemptyset(&pipe_signal);
    sigaddset(&pipe_signal, SIGPIPE);
    (void)sigpending(&pending);
    (void)pthread_sigmask(SIG_BLOCK, &pipe_signal, &before);
    work(&exchange, deadline_ns);
    if (exchange.end == FM_EXCHANGE_CLOSED && exchange.piece < piece_count) {
        const struct timespec now = {0};
        /* The one that our write has raised, which is nobody's business. */
        if (sigismember(&pending, SIGPIPE) == 0) {
            while (sigtimedwait(&pipe_signal, NULL, &now) < 0 && errno == EINTR) {
            }
        }
        last_words(&exchange);
    }
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return exchange.end;
}
