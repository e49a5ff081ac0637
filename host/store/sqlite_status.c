/*
 * SQLite's results as statuses. See sqlite_status.h.
 */
#include "host/store/sqlite_status.h"

#include <errno.h>
#include <stddef.h>

#include "fermata/status.h"

int fm_sqlite_status(sqlite3 *database, int result)
{
    int system_error = sqlite3_system_errno(database);
    switch (result & 0xff) {
    case SQLITE_FULL:
        return FM_ENOSPC;
    case SQLITE_IOERR:
        return system_error == ENOSPC || system_error == EDQUOT ? FM_ENOSPC : FM_EIO;
    case SQLITE_CANTOPEN:
        return system_error == ENOSPC                            ? FM_ENOSPC
               : system_error == EACCES || system_error == EROFS ? FM_EPERM
                                                                 : FM_EIO;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_ERROR: /* a table or column that should be there is not */
    case SQLITE_SCHEMA:
        return FM_ECORRUPT;
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return FM_EUNAVAILABLE;
    case SQLITE_PERM:
    case SQLITE_READONLY:
    case SQLITE_AUTH:
        return FM_EPERM;
    case SQLITE_NOMEM:
        return FM_ENOMEM;
    default:
        return FM_EINTERNAL;
    }
}

int fm_sqlite_number(sqlite3 *database, const char *text, int64_t *ret_value)
{
    sqlite3_stmt *statement = NULL;
    int result = sqlite3_prepare_v2(database, text, -1, &statement, NULL);
    if (result == SQLITE_OK) {
        result = sqlite3_step(statement);
        if (result == SQLITE_ROW) {
            *ret_value = sqlite3_column_int64(statement, 0);
            result = SQLITE_OK;
        }
    }
    (void)sqlite3_finalize(statement);
    return result;
}

int fm_sqlite_script(sqlite3 *database, const char *text)
{
    int result = sqlite3_exec(database, text, NULL, NULL, NULL);
    if (result != SQLITE_OK && sqlite3_get_autocommit(database) == 0) {
        (void)sqlite3_exec(database, "ROLLBACK", NULL, NULL, NULL);
    }
    return result;
}
