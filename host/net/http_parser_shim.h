/*
 * HTTP/1.1 parsing, of requests and of answers, over llhttp or its predecessor http-parser,
 * whichever the system has.
 *
 * Owns: the only contact with either library. Does not own: limits, buffers, sockets. Thread rule:
 * one parser, one thread.
 */
#ifndef FM_HOST_NET_HTTP_PARSER_SHIM_H
#define FM_HOST_NET_HTTP_PARSER_SHIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fermata/status.h"

/* Texts may come in pieces. Each returns 0, or -1 to end the parsing: fm_http_parser_feed then
 * returns FM_ECANCELLED. */
struct fm_http_parser_events {
    int (*begin)(void *context);
    int (*target)(void *context, const char *data, size_t length);
    int (*header_name)(void *context, const char *data, size_t length);
    int (*header_value)(void *context, const char *data, size_t length);
    int (*head_complete)(void *context);
    int (*chunk)(void *context);
    int (*body)(void *context, const char *data, size_t length);
};

struct fm_http_parser;

/* NULL when out of memory. `events` must outlive the parser. */
struct fm_http_parser *fm_http_parser_create(const struct fm_http_parser_events *events,
                                             void *context) __attribute__((warn_unused_result));
/* The same for answers, which have no target. */
struct fm_http_parser *fm_http_parser_create_answers(const struct fm_http_parser_events *events,
                                                     void *context)
    __attribute__((warn_unused_result));
void fm_http_parser_free(struct fm_http_parser *parser); /* accepts NULL */

/*
 * Feeds bytes; *ret_consumed of them were used. 0: all used, the message goes on. FM_EAGAIN: a
 * message is complete; feed the rest for the next one. FM_ECANCELLED: an event said so.
 * FM_ETOOLARGE: the library's own header limit. FM_EINVAL: malformed; the parser is unusable.
 */
int FM_NODISCARD fm_http_parser_feed(struct fm_http_parser *parser, const char *data, size_t length,
                                     size_t *ret_consumed);
/* The peer sends no more. True: that completes an answer whose end nothing else tells. */
bool fm_http_parser_finish(struct fm_http_parser *parser);
/* What is wrong after FM_EINVAL. */
const char *fm_http_parser_problem(const struct fm_http_parser *parser);

/* From head_complete on. */
const char *fm_http_parser_method(const struct fm_http_parser *parser);
unsigned fm_http_parser_status(const struct fm_http_parser *parser); /* of an answer */
bool fm_http_parser_keep_alive(const struct fm_http_parser *parser);
bool fm_http_parser_is_1_0(const struct fm_http_parser *parser);
bool fm_http_parser_is_chunked(const struct fm_http_parser *parser);
/* What the Content-Length header says, however much of the body came; 0 when there is none. */
uint64_t fm_http_parser_content_length(const struct fm_http_parser *parser);

#endif
