/*
 * What the master of a batch job and its workers say to each other, as bytes: proto/batch.proto to
 * plain structs and back.
 *
 * Owns: the messages of both directions, read in place and written at the end of a text, their
 * limits, and which numbers make sense by themselves. Does not own: what a message leads to
 * (core/ledger/master.h and holder.h), their order (docs/batch-protocol.md), frames and streams
 * (host/net). Nothing is allocated by the readers; views point into the message. Thread rule:
 * caller's memory.
 *
 * How the protocol's corners are settled: fields that are not known are stepped over; a message
 * without a kind that is known here is malformed, and of several kinds the last counts, whole; a
 * known field of another type, and a number that does not fit, are malformed. Texts may hold any
 * bytes. The same checks are made of what is written, so that everything that can be written can
 * be read.
 */
#ifndef FM_CORE_PROTO_BATCH_MESSAGES_H
#define FM_CORE_PROTO_BATCH_MESSAGES_H

#include "core/ledger/crew.h"
#include "core/ledger/master.h"
#include "core/util/text.h"

#define FM_BATCH_PROTOCOL_VERSION 1u

/* A message beyond one of these is FM_ETOOLARGE; one with too many facts or holdings is FM_ELIMIT.
 */
#define FM_BATCH_MESSAGE_BYTES_MAX (64u << 20)
#define FM_BATCH_NAME_BYTES_MAX    255u  /* versions, hosts, names, stages, keys of facts */
#define FM_BATCH_REASON_BYTES_MAX  4096u /* who keeps one cuts it to FM_SHARD_REASON_SIZE */
#define FM_BATCH_PATH_BYTES_MAX    4096u
#define FM_BATCH_ID_BYTES_MAX      4096u
#define FM_BATCH_FACT_BYTES_MAX    (1u << 20) /* of its value */
#define FM_BATCH_JOB_BYTES_MAX     (4u << 20)
#define FM_BATCH_FACTS_MAX         256u

struct fm_batch_view {
    const char *data; /* not NUL-terminated */
    size_t size;
};

/* Of a whole text, which has to outlive it. */
struct fm_batch_view fm_batch_view_of(const char *text);
/* As a text that ends in NUL, cut to what there is room for. */
void fm_batch_view_copy(struct fm_batch_view view, char *ret_text, size_t size);

/* --- What a worker says --- */

enum fm_batch_worker_kind {
    FM_BATCH_WORKER_JOIN,     /* the first of every stream: who it is, and what it speaks */
    FM_BATCH_WORKER_HELLO,    /* it is there (again), and holds these */
    FM_BATCH_WORKER_BEAT,     /* it lives, and is so far */
    FM_BATCH_WORKER_DONE,     /* its attempt is on the disk */
    FM_BATCH_WORKER_FAILED,   /* its attempt came to nothing */
    FM_BATCH_WORKER_RELEASED, /* it gives the shard back unharmed */
    FM_BATCH_WORKER_TRIMMED,  /* the answer to TRIM */
    FM_BATCH_WORKER_LEAVE,    /* the last of all: it goes, and says why */
    FM_BATCH_WORKER_COUNT_
};

struct fm_batch_join {
    uint32_t protocol_version; /* the newest that it speaks; > 0 */
    struct fm_batch_view fermata_version;
    struct fm_batch_view host;
    uint32_t process;
    struct fm_batch_view name;
};

struct fm_batch_holdings {
    uint32_t count;
    struct fm_master_holding items[FM_MASTER_SHARDS_OF_ONE_MAX]; /* each number once */
};

struct fm_batch_hello {
    uint64_t worker;     /* the number that it chose for itself; not 0 */
    uint32_t shards_max; /* 1 to FM_MASTER_SHARDS_OF_ONE_MAX */
    struct fm_batch_holdings holdings;
    bool single; /* it has one row at a time, in batches of one, and cannot do with less */
};

/* What a worker has set its data path to; all 0 and empty: it does not say. */
struct fm_batch_tuned {
    uint32_t readers;
    uint32_t operators;           /* threads; 0: the pipeline has none */
    uint32_t rows;                /* in flight, at most */
    struct fm_batch_view batches; /* by model stage, "det 8, rec 16" */
    /* Not set, but measured: what its accelerators have done (batch_accelerators.h); empty: it has
     * none. */
    struct fm_batch_view accelerators;
};

/* Memory of the rows that a worker has in work, in bytes; all 0: it does not say. */
struct fm_batch_memory {
    uint64_t budget; /* 0: none */
    uint64_t base;   /* resident without rows in work */
    uint64_t used;   /* resident above that ... */
    uint64_t most;   /* ... and the most that there has been */
    uint64_t rows;   /* of it: what is known to be tensors, inputs and lines of rows */
};

#define FM_BATCH_STAGES_MAX 16u

struct fm_batch_stage {
    struct fm_batch_view name;
    double busy; /* share of the time of its instances or threads, 0 to 1 */
};

/* How busy a worker's stages were lately; none: it does not say. */
struct fm_batch_stages {
    uint32_t count;
    struct fm_batch_stage items[FM_BATCH_STAGES_MAX];
};

struct fm_batch_beat {
    struct fm_batch_holdings holdings;
    uint64_t memory_bytes;
    struct fm_batch_view slowest_stage;
    double slowest_share; /* of the time that it is busy; 0 to 1 */
    uint64_t rows_per_minute;
    struct fm_batch_view last_error; /* why a row became a dead letter, the latest; empty: none */
    struct fm_batch_view long_stage; /* that has been running for long, without a limit; or empty */
    uint64_t long_ns;
    struct fm_batch_tuned tuned;
    struct fm_batch_memory memory;
    struct fm_batch_stages stages;
};

struct fm_batch_failed {
    uint64_t number;
    uint64_t epoch;
    enum fm_shard_failure failure;
    struct fm_batch_view reason;
};

/* A lease: RELEASED, COMMITTED, REFUSED. */
struct fm_batch_lease {
    uint64_t number;
    uint64_t epoch;
};

/* TRIM, where keep_rows 0 asks for all of it, and TRIMMED, which keeps one row at least. */
struct fm_batch_trim {
    uint64_t number;
    uint64_t epoch;
    uint64_t keep_rows;
};

struct fm_batch_leave {
    int32_t status; /* 0, or FM_E... */
    struct fm_batch_view reason;
    enum fm_crew_cause cause;
};

struct fm_batch_worker_message {
    enum fm_batch_worker_kind kind;
    union {
        struct fm_batch_join join;
        struct fm_batch_hello hello;
        struct fm_batch_beat beat;
        struct fm_master_done done; /* files.attempt is the epoch when it was read */
        struct fm_batch_failed failed;
        struct fm_batch_lease released;
        struct fm_batch_trim trimmed;
        struct fm_batch_leave leave;
    };
};

/* "Join". */
const char *fm_batch_worker_kind_name(enum fm_batch_worker_kind kind);

/*
 * The message that fills data[size], which has to outlive it. FM_EINVAL: it is malformed, or what
 * no worker of ours would say; FM_ETOOLARGE, FM_ELIMIT: beyond a limit. The words name the field.
 */
int FM_NODISCARD fm_batch_worker_message_read(const void *data, size_t size,
                                              struct fm_batch_worker_message *ret_message,
                                              struct fm_error *reterr);
/*
 * Appends the message to `text`. FM_ENOMEM; FM_EINVAL, FM_ETOOLARGE and FM_ELIMIT where reading
 * would say so. On failure the text is what it was before.
 */
int FM_NODISCARD fm_batch_worker_message_write(struct fm_text *text,
                                               const struct fm_batch_worker_message *message);

/* --- What the master says --- */

enum fm_batch_master_kind {
    FM_BATCH_MASTER_WELCOME, /* the answer to JOIN: the job, and how often to be heard of */
    FM_BATCH_MASTER_GRANT,
    FM_BATCH_MASTER_COMMITTED,
    FM_BATCH_MASTER_REFUSED,
    FM_BATCH_MASTER_TRIM,
    FM_BATCH_MASTER_STOP, /* FM_MASTER_STOP and FM_MASTER_DROP */
    FM_BATCH_MASTER_END,  /* the last of all: the worker may go */
    FM_BATCH_MASTER_COUNT_
};

struct fm_batch_fact {
    struct fm_batch_view key; /* not empty */
    struct fm_batch_view value;
};

#define FM_BATCH_SIZE_UNKNOWN UINT64_MAX

/* A file that is a row, or some rows of a file that holds many. */
struct fm_batch_row {
    struct fm_batch_view id; /* of the file; not empty */
    uint64_t size;           /* of the file in bytes, or FM_BATCH_SIZE_UNKNOWN */
    uint64_t row_count;      /* of the file's rows; 0: the file is one */
    uint64_t first_row;      /* of those, in the file; these are 0 where row_count is */
    uint64_t point_row;      /* a place from which a reader may begin: at or before first_row */
    uint64_t point_offset;
    uint64_t point_line;
};

/*
 * Lists of any length, which are not copied. To be written: `items` and `count`. What was read has
 * items NULL, and `wire` is where the elements stand. `_next` takes the first element off the
 * list, so walk over a copy of it; false: it is empty.
 */
struct fm_batch_facts {
    const struct fm_batch_fact *items;
    uint64_t count;
    struct fm_batch_view wire; /* internal */
};

struct fm_batch_rows {
    const struct fm_batch_row *items;
    uint64_t count;
    uint64_t row_count; /* of what was read: all of them together, a file that is one included */
    struct fm_batch_view wire; /* internal */
};

bool fm_batch_facts_next(struct fm_batch_facts *facts, struct fm_batch_fact *ret_fact);
bool fm_batch_rows_next(struct fm_batch_rows *rows, struct fm_batch_row *ret_row);

struct fm_batch_welcome {
    uint32_t protocol_version; /* the one to be spoken, at most the worker's; > 0 */
    struct fm_batch_view job;
    struct fm_batch_view job_file; /* its path */
    struct fm_batch_view job_text; /* the file itself */
    struct fm_batch_view output;
    struct fm_batch_facts facts;
    uint64_t beat_ns; /* > 0, below lease_ns */
    uint64_t give_up_ns;
    uint64_t lease_ns;
    struct fm_batch_view base;
    uint64_t memory_bytes; /* that the worker's process may have; 0: no limit */
    uint32_t halvings;     /* of its rows in flight and its largest batches, each down to 1 */
    uint32_t sharers; /* workers on its machine that the master knows of or may start, with this
                         one; 0: not known */
};

struct fm_batch_grant {
    /* number, first_row, row_count, epoch, condemned, and whether it is suspect: what was read has
     * the state LEASED, and one failure for its data where it is suspect. */
    struct fm_shard shard;
    struct fm_batch_view reason; /* of a condemned row: why */
    struct fm_batch_rows rows;   /* together as many as the shard has */
};

struct fm_batch_stop {
    bool drop;  /* everything is given back, and nothing kept */
    bool again; /* and the worker leaves: another process takes its place */
};

struct fm_batch_end {
    int32_t status; /* 0, or FM_E...: the job has failed */
    struct fm_batch_view reason;
};

struct fm_batch_master_message {
    enum fm_batch_master_kind kind;
    union {
        struct fm_batch_welcome welcome;
        struct fm_batch_grant grant;
        struct fm_batch_lease committed;
        struct fm_batch_lease refused;
        struct fm_batch_trim trim;
        struct fm_batch_stop stop;
        struct fm_batch_end end;
    };
};

/* "Welcome". */
const char *fm_batch_master_kind_name(enum fm_batch_master_kind kind);

/* As those of the worker's messages. A list's items have to outlive the call of write only. */
int FM_NODISCARD fm_batch_master_message_read(const void *data, size_t size,
                                              struct fm_batch_master_message *ret_message,
                                              struct fm_error *reterr);
int FM_NODISCARD fm_batch_master_message_write(struct fm_text *text,
                                               const struct fm_batch_master_message *message);

#endif
