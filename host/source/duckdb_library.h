/*
 * DuckDB, which reads and writes Parquet: its library, one instance of it, connections.
 *
 * Owns: loading the shared library when it is needed first, which of its functions are used, the
 * instance's limits, how its errors are told. Does not own: queries. Thread rule: opening is thread
 * safe; a session belongs to one thread at a time.
 *
 * The library is looked for at the path in FERMATA_DUCKDB if that is set, else where an
 * installation has it (beside the plug-ins' folder), where this build found it, and where the
 * system looks. It stays loaded, and the instance open, until the process ends. The instance works
 * on the threads that call it and on no other, holds FM_DUCKDB_MEMORY at most, writes nothing but
 * what it is told to, and loads and fetches no extensions.
 */
#ifndef FM_HOST_SOURCE_DUCKDB_LIBRARY_H
#define FM_HOST_SOURCE_DUCKDB_LIBRARY_H

#include <duckdb.h>

#include "core/util/text.h"
#include "fermata/status.h"

/* What it counts itself: the pages of the row groups that are read, and the row groups that are
 * being written. */
#define FM_DUCKDB_MEMORY "4GiB"

/* X(name): the function duckdb_<name>. */
#define FM_DUCKDB_FUNCTIONS(X)          \
    X(array_type_array_size)            \
    X(array_type_child_type)            \
    X(array_vector_get_child)           \
    X(bind_add_result_column)           \
    X(bind_get_parameter)               \
    X(bind_set_bind_data)               \
    X(bind_set_error)                   \
    X(close)                            \
    X(column_count)                     \
    X(column_logical_type)              \
    X(column_name)                      \
    X(connect)                          \
    X(create_config)                    \
    X(create_list_type)                 \
    X(create_logical_type)              \
    X(create_table_function)            \
    X(data_chunk_get_size)              \
    X(data_chunk_get_vector)            \
    X(data_chunk_set_size)              \
    X(decimal_internal_type)            \
    X(decimal_scale)                    \
    X(destroy_config)                   \
    X(destroy_data_chunk)               \
    X(destroy_logical_type)             \
    X(destroy_pending)                  \
    X(destroy_prepare)                  \
    X(destroy_result)                   \
    X(destroy_table_function)           \
    X(destroy_value)                    \
    X(disconnect)                       \
    X(execute_pending)                  \
    X(fetch_chunk)                      \
    X(free)                             \
    X(function_get_bind_data)           \
    X(function_set_error)               \
    X(get_type_id)                      \
    X(get_uint64)                       \
    X(init_set_max_threads)             \
    X(library_version)                  \
    X(list_type_child_type)             \
    X(list_vector_get_child)            \
    X(list_vector_reserve)              \
    X(list_vector_set_size)             \
    X(logical_type_get_alias)           \
    X(logical_type_set_alias)           \
    X(open_ext)                         \
    X(pending_error)                    \
    X(pending_prepared_streaming)       \
    X(prepare)                          \
    X(prepare_error)                    \
    X(query)                            \
    X(register_table_function)          \
    X(result_error)                     \
    X(set_config)                       \
    X(struct_type_child_count)          \
    X(struct_type_child_name)           \
    X(struct_type_child_type)           \
    X(struct_vector_get_child)          \
    X(table_function_add_parameter)     \
    X(table_function_set_bind)          \
    X(table_function_set_function)      \
    X(table_function_set_init)          \
    X(table_function_set_name)          \
    X(vector_assign_string_element_len) \
    X(vector_ensure_validity_writable)  \
    X(vector_get_data)                  \
    X(vector_get_validity)              \
    X(vector_size)

struct fm_duckdb {
#define FM_DUCKDB_MEMBER(name) __typeof__(&duckdb_##name) name;
    FM_DUCKDB_FUNCTIONS(FM_DUCKDB_MEMBER)
#undef FM_DUCKDB_MEMBER
};

/* A connection. Zero-initialise. */
struct fm_duckdb_session {
    const struct fm_duckdb *duck; /* NULL: not open */
    duckdb_connection connection;
    struct fm_duckdb_instance *instance; /* internal */
};

/* Loads the library first, if nobody did. FM_ENOTFOUND: it is nowhere (where it was looked for, and
 * how to get it); FM_EABI: it is none, or too old; FM_ENOMEM. */
int FM_NODISCARD fm_duckdb_open(struct fm_duckdb_session *session, struct fm_error *reterr);
void fm_duckdb_close(struct fm_duckdb_session *session); /* fine when not open */

/* The functions, in what DuckDB calls back: so in a process in which a session was opened. */
const struct fm_duckdb *fm_duckdb_loaded(void);

/* Calls `make` (0: it is done) unless that was done in the session's instance already: to register
 * a function, which all its sessions have then. `make` is the same for all callers. */
int FM_NODISCARD fm_duckdb_once(const struct fm_duckdb_session *session,
                                int (*make)(const struct fm_duckdb *duck,
                                            duckdb_connection connection),
                                struct fm_error *reterr);

/* A statement without rows of interest. `path` and `descriptor`: as below. */
int FM_NODISCARD fm_duckdb_run(const struct fm_duckdb_session *session, const char *sql,
                               const char *path, int descriptor, struct fm_error *reterr);

/*
 * Tells a message of DuckDB's about the file `path`, which it knows as FM_DUCKDB_FILE of
 * `descriptor`: its first line, with the file's own name. Returns FM_EIO, FM_ENOSPC, FM_ENOMEM or
 * FM_EINTERNAL where the message says so, else `status`.
 */
int fm_duckdb_refuse(const struct fm_duckdb_session *session, int status, const char *message,
                     const char *path, int descriptor, struct fm_error *reterr);

/* How DuckDB is given an open file: no character of its path means a pattern, a protocol or a
 * partition then. A format for the descriptor. */
#define FM_DUCKDB_FILE "/proc/self/fd/%d"

#endif
