/*
 * The exit codes' meanings and the mapping from status codes. See exit_code.h. Pure.
 */
#include "cmd/exit_code.h"

#include <stddef.h>

#include "fermata/status.h"

const char *fm_exit_code_meaning(int code)
{
    switch (code) {
#define FM_EXIT_MEANING(name, code, meaning) \
    case (code):                             \
        return meaning;
        FM_EXIT_TABLE(FM_EXIT_MEANING)
#undef FM_EXIT_MEANING
    default:
        return NULL;
    }
}

int fm_exit_code_from_status(int status)
{
    switch (status) {
    case FM_OK:
        return FM_EXIT_OK;
    case FM_EINVAL:
    case FM_ENOTFOUND:
    case FM_EEXIST:
    case FM_ECORRUPT:
    case FM_ETYPE:
    case FM_ETOOLARGE:
    case FM_EPERM:
    case FM_EUNSUPPORTED:
    case FM_EABI:
        return FM_EXIT_INPUT;
    case FM_ELIMIT:
    case FM_EUNAVAILABLE:
    case FM_EDEADLINE:
    case FM_EAGAIN:
        return FM_EXIT_UNAVAILABLE;
    case FM_ECANCELLED:
        return FM_EXIT_INTERRUPTED;
    default:
        return FM_EXIT_FAILURE;
    }
}
