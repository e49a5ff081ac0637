/*
 * What `fermata` answers to the shell: the one table of exit codes, and how a status of the library
 * becomes one.
 *
 * Help texts, man pages and docs/cli.md print this table; a command names the codes it uses beyond
 * 0, 1 and 2. Thread rule: pure.
 */
#ifndef FM_CMD_EXIT_CODE_H
#define FM_CMD_EXIT_CODE_H

/* X(name, code, meaning). Codes are a promise to scripts: append only. */
#define FM_EXIT_TABLE(X)                                                                \
    X(OK, 0, "success")                                                                 \
    X(FAILURE, 1, "the work failed (the message says why)")                             \
    X(USAGE, 2, "wrong command, option or argument")                                    \
    X(INPUT, 3, "a configuration, model or input file is missing, unreadable or wrong") \
    X(PARTIAL, 4, "complete, but some rows failed and are in the dead-letter file")     \
    X(INCOMPLETE, 5, "stopped before the end; what is done is kept and can be resumed") \
    X(UNAVAILABLE, 6,                                                                   \
      "something needed is busy, full or not running; the same call may work later")    \
    X(THRESHOLD, 7, "stopped because more rows failed than the job allows")             \
    X(UNPROVEN, 8, "the results were checked, and they are not what they should be")    \
    X(INTERRUPTED, 130,                                                                 \
      "interrupted (Ctrl-C); `fermata batch` keeps what is finished and can resume")    \
    X(ABANDONED, 141,                                                                   \
      "any command: what reads standard output, as `head` does, left before its end")   \
    X(TERMINATED, 143, "ended by SIGTERM, otherwise as 130")

enum fm_exit_code {
#define FM_EXIT_ENUM(name, code, meaning) FM_EXIT_##name = (code),
    FM_EXIT_TABLE(FM_EXIT_ENUM)
#undef FM_EXIT_ENUM
};

/* The meaning of a code in the table, NULL for any other. */
const char *fm_exit_code_meaning(int code);
/* The exit code for a status: inputs that a person must mend give INPUT, conditions that pass give
 * UNAVAILABLE, others FAILURE. */
int fm_exit_code_from_status(int status);

#endif
