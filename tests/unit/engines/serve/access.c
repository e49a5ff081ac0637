/*
 * Tokens, origins and clients: the pure parts of access, and what one seat decides.
 */
#include "engines/serve/access.h"

#include <sys/stat.h>
#include <unistd.h>

#include "core/util/memory.h"
#include "core/util/text.h"
#include "engines/serve/access_origin.h"
#include "host/os/file.h"
#include "host/os/os.h"
#include "tests/harness/test.h"

#define SECOND UINT64_C(1000000000)
#define START  (UINT64_C(1000) * SECOND)

/* --- tokens --- */

static int parse(const char *text, struct fm_access_tokens **ret_tokens, struct fm_error *error)
{
    static const struct fm_client_limit limit = {SECOND, SECOND, 7};
    struct fm_digester *digester = fm_digester_create();
    char *copy = fm_strdup(text);
    int status =
        fm_access_tokens_parse(digester, "the-file", copy, strlen(copy), &limit, ret_tokens, error);
    fm_free(copy);
    fm_digester_destroy(digester);
    return status;
}

static const struct fm_access_token *find(const struct fm_access_tokens *tokens, const char *token)
{
    uint8_t digest[FM_SHA256_BYTES];
    struct fm_digester *digester = fm_digester_create();
    int status = fm_sha256(digester, token, strlen(token), digest);
    fm_digester_destroy(digester);
    return status == 0 ? fm_access_tokens_find(tokens, digest) : NULL;
}

TEST(a_token_file)
{
    struct fm_access_tokens *tokens = NULL;
    struct fm_error error = {0};
    /* sha256 of "abcdefghijklmnop". */
    CHECK_INT_EQ(
        parse("\xEF\xBB\xBF# who\n"
              "\n"
              "alice 0123456789abcdef\r\n"
              "  bob\tsha256:f39dac6cbaba535e2c207cd0cd8f154974223c848f727f98b3564cea569b41cf "
              "control rate=10/s:3 in-flight=2 # fast\n"
              "root  aaaaaaaaaaaaaaaa all rate=none in-flight=none",
              &tokens, &error),
        0);
    CHECK_INT_EQ(fm_access_tokens_count(tokens), 3);
    const struct fm_access_token *alice = find(tokens, "0123456789abcdef");
    const struct fm_access_token *bob = find(tokens, "abcdefghijklmnop");
    const struct fm_access_token *root = find(tokens, "aaaaaaaaaaaaaaaa");
    CHECK(alice != NULL && bob != NULL && root != NULL);
    CHECK_STR_EQ(alice->name, "alice");
    CHECK_INT_EQ(alice->scopes, FM_ACCESS_SCOPE_INFER | FM_ACCESS_SCOPE_READ);
    CHECK_INT_EQ(alice->limit.in_flight_max, 7);
    CHECK_INT_EQ(alice->limit.interval_ns, SECOND);
    CHECK_INT_EQ(bob->scopes, FM_ACCESS_SCOPE_CONTROL);
    CHECK_INT_EQ(bob->limit.interval_ns, SECOND / 10);
    CHECK_INT_EQ(bob->limit.burst_ns, 3 * SECOND / 10);
    CHECK_INT_EQ(bob->limit.in_flight_max, 2);
    CHECK_INT_EQ(root->scopes, 15);
    CHECK_INT_EQ(root->limit.interval_ns, 0);
    CHECK_INT_EQ(root->limit.in_flight_max, 0);
    CHECK(find(tokens, "0123456789abcdeF") == NULL);
    CHECK(find(tokens, "") == NULL);
    fm_access_tokens_unref(tokens);
}

TEST(mistakes_in_a_token_file)
{
    static const struct {
        const char *text;
        const char *words;
    } rows[] = {
        {"", "there is no token in it"},
        {"# nothing\n\n", "there is no token in it"},
        {"alice\n", "line 1: there is no token behind the name"},
        {"\nal/ice 0123456789abcdef\n", "line 2: a name has"},
        {"alice SECRET-short\n", "16 to 512"},
        {"alice sha256:00\n", "64 hexadecimal digits"},
        {"alice 0123456789abcde\xC3\xA4\n", "visible ASCII"},
        {"alice 0123456789abcdef SECRET\n", "behind the token come scopes"},
        {"alice 0123456789abcdef rate=SECRET\n", "rate= wants"},
        {"alice 0123456789abcdef in-flight=0\n", "in-flight= wants"},
        {"alice 0123456789abcdef\nalice 0123456789abcdeg\n", "line 2: this name stands"},
        {"alice 0123456789abcdef\nbob 0123456789abcdef\n", "line 2: this token stands"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct fm_access_tokens *tokens = NULL;
        struct fm_error error = {0};
        CHECK_INT_EQ(parse(rows[i].text, &tokens, &error), FM_EINVAL);
        CHECK_STR_CONTAINS(error.text, rows[i].words);
        CHECK_STR_CONTAINS(error.text, "the-file");
        CHECK(strstr(error.text, "SECRET") == NULL);
    }
    struct fm_access_tokens *tokens = NULL;
    struct fm_error error = {0};
    struct fm_digester *digester = fm_digester_create();
    char nul[] = "alice 0123456789abcdef\0 all\n";
    static const struct fm_client_limit limit = {0};
    CHECK_INT_EQ(
        fm_access_tokens_parse(digester, "f", nul, sizeof nul - 1, &limit, &tokens, &error),
        FM_EINVAL);
    CHECK_STR_CONTAINS(error.text, "NUL");
    fm_digester_destroy(digester);
}

TEST(no_more_tokens_than_the_maximum)
{
    for (uint32_t count = FM_ACCESS_TOKENS_MAX; count <= FM_ACCESS_TOKENS_MAX + 1; count++) {
        struct fm_access_tokens *tokens = NULL;
        struct fm_error error = {0};
        struct fm_text text = {0};
        for (uint32_t i = 0; i < count; i++) {
            fm_text_append_format(&text, "name%u token-number-%08u\n", i, i);
        }
        int status = parse(text.data, &tokens, &error);
        CHECK_INT_EQ(status, count <= FM_ACCESS_TOKENS_MAX ? 0 : FM_EINVAL);
        if (status == 0) {
            CHECK_STR_EQ(find(tokens, "token-number-00004095")->name, "name4095");
            fm_access_tokens_unref(tokens);
        } else {
            CHECK_STR_CONTAINS(error.text, "more than 4096");
        }
        fm_text_deinit(&text);
    }
}

/* --- browsers --- */

TEST(hosts)
{
    static const char *const names[] = {"dash.example.com", "fermata"};
    static const char *const known[] = {"localhost",
                                        "localhost:8000",
                                        "LOCALHOST",
                                        "a.localhost:1",
                                        "127.0.0.1",
                                        "10.1.2.3:8000",
                                        "[::1]",
                                        "[::1]:8000",
                                        "[fe80::1]:80",
                                        "dash.example.com",
                                        "Dash.Example.Com:443",
                                        "dash.example.com.",
                                        "fermata:1"};
    static const char *const strange[] = {"",
                                          ":8000",
                                          "evil.com",
                                          "evil.com:8000",
                                          "xlocalhost",
                                          "127.0.0.1.evil.com",
                                          "localhost.evil.com",
                                          "127.0.0.1x",
                                          "dash.example.com.evil.com",
                                          "a:b",
                                          "[::1",
                                          "[evil]",
                                          "1.2.3",
                                          "evil.com:80:80",
                                          "localhost@evil.com"};
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        CHECK(fm_access_host_is_known(known[i], names, 2));
    }
    for (size_t i = 0; i < sizeof strange / sizeof strange[0]; i++) {
        CHECK(!fm_access_host_is_known(strange[i], names, 2));
    }
    CHECK(fm_access_host_is_known(NULL, NULL, 0));
    CHECK(!fm_access_host_is_known("dash.example.com", NULL, 0));
}

TEST(origins)
{
    CHECK(fm_access_origin_is_same("http://localhost:8000", "localhost:8000"));
    CHECK(fm_access_origin_is_same("https://Localhost:8000", "localhost:8000"));
    CHECK(!fm_access_origin_is_same("http://localhost:8001", "localhost:8000"));
    CHECK(!fm_access_origin_is_same("http://evil.example", "localhost:8000"));
    CHECK(!fm_access_origin_is_same("null", "localhost:8000"));
    CHECK(!fm_access_origin_is_same("http://localhost", NULL));
    CHECK(fm_access_origin_is_valid("https://example.com"));
    CHECK(fm_access_origin_is_valid("http://[::1]:3000"));
    CHECK(fm_access_origin_is_valid("*"));
    CHECK(!fm_access_origin_is_valid("example.com"));
    CHECK(!fm_access_origin_is_valid("https://example.com/"));
    CHECK(!fm_access_origin_is_valid("https://example.com\r\nX: b"));
    CHECK(!fm_access_origin_is_valid("https://"));
    CHECK(!fm_access_origin_is_valid("null"));
    CHECK(fm_access_host_is_valid("example.com"));
    CHECK(!fm_access_host_is_valid("example.com:80"));
    CHECK(!fm_access_host_is_valid(""));
}

/* --- deciding --- */

static const char *file_write(const char *text, unsigned mode)
{
    static char directory[256];
    static char path[300];
    if (directory[0] == '\0' &&
        fm_file_make_temporary("fermata-access-", directory, sizeof directory, NULL) != 0) {
        return NULL;
    }
    (void)snprintf(path, sizeof path, "%s/tokens", directory);
    FILE *file = fopen(path, "w");
    if (file == NULL) {
        return NULL;
    }
    fputs(text, file);
    fclose(file);
    return chmod(path, mode) == 0 ? path : NULL;
}

static enum fm_access_verdict ask(struct fm_access_seat *seat, const char *token,
                                  enum fm_access_class class, struct fm_access_who *ret_who)
{
    const struct fm_peer peer = {FM_PEER_IPV6, {0x20, 1, 0xd, 0xb8, 0, 1, 0, 2, 9}};
    char header[600];
    (void)snprintf(header, sizeof header, "Bearer %s", token != NULL ? token : "");
    const struct fm_access_credentials credentials = {.authorization =
                                                          token != NULL ? header : NULL};
    return fm_access_identify(seat, &peer, &credentials, class, ret_who);
}

TEST(who_may_do_what)
{
    struct fm_access_options options = {
        .token_file =
            file_write("alice 0123456789abcdef\nprom prom-prom-prom-prom observe\n", 0600)};
    struct fm_access *access = NULL;
    struct fm_access_seat seat;
    struct fm_access_who who;
    CHECK_INT_EQ(fm_access_create(&options, &access, NULL), 0);
    CHECK_INT_EQ(fm_access_seat_init(&seat, access, NULL), 0);
    CHECK_INT_EQ(ask(&seat, NULL, FM_ACCESS_HEALTH, &who), FM_ACCESS_GRANTED);
    char name[100];
    fm_access_who_name(&who, name, sizeof name);
    CHECK_STR_EQ(name, "2001:db8:1:2::/64");
    CHECK_INT_EQ(ask(&seat, NULL, FM_ACCESS_OPEN, &who), FM_ACCESS_GRANTED);
    CHECK_INT_EQ(ask(&seat, NULL, FM_ACCESS_INFER, &who), FM_ACCESS_NO_TOKEN);
    CHECK_INT_EQ(ask(&seat, "", FM_ACCESS_INFER, &who), FM_ACCESS_BAD_TOKEN);
    CHECK_INT_EQ(ask(&seat, "0123456789abcdeX", FM_ACCESS_INFER, &who), FM_ACCESS_BAD_TOKEN);
    char longest[550];
    memset(longest, 'a', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    CHECK_INT_EQ(ask(&seat, longest, FM_ACCESS_INFER, &who), FM_ACCESS_BAD_TOKEN);
    CHECK_INT_EQ(ask(&seat, "0123456789abcdef", FM_ACCESS_INFER, &who), FM_ACCESS_GRANTED);
    CHECK_STR_EQ(who.name, "alice");
    CHECK_INT_EQ(ask(&seat, "0123456789abcdef", FM_ACCESS_READ, &who), FM_ACCESS_GRANTED);
    CHECK_INT_EQ(ask(&seat, "0123456789abcdef", FM_ACCESS_CONTROL, &who), FM_ACCESS_NO_SCOPE);
    CHECK_INT_EQ(ask(&seat, "0123456789abcdef", FM_ACCESS_OBSERVE, &who), FM_ACCESS_NO_SCOPE);
    CHECK_INT_EQ(ask(&seat, "prom-prom-prom-prom", FM_ACCESS_OBSERVE, &who), FM_ACCESS_GRANTED);
    CHECK_INT_EQ(ask(&seat, "prom-prom-prom-prom", FM_ACCESS_INFER, &who), FM_ACCESS_NO_SCOPE);

    /* A file that became worse changes nothing; a better one counts from the next request on. */
    struct fm_error error = {0};
    (void)file_write("alice short\n", 0600);
    CHECK_INT_EQ(fm_access_reload(access, &error), FM_EINVAL);
    (void)file_write("alice 0123456789abcdef\n", 0644);
    CHECK_INT_EQ(fm_access_reload(access, &error), FM_EPERM);
    CHECK_STR_CONTAINS(error.text, "chmod 600");
    CHECK_INT_EQ(ask(&seat, "0123456789abcdef", FM_ACCESS_INFER, &who), FM_ACCESS_GRANTED);
    (void)chmod(options.token_file, 0600);
    (void)file_write("carol fedcba9876543210 all\n", 0600);
    CHECK_INT_EQ(fm_access_reload(access, NULL), 0);
    CHECK_INT_EQ(ask(&seat, "0123456789abcdef", FM_ACCESS_INFER, &who), FM_ACCESS_BAD_TOKEN);
    CHECK_INT_EQ(ask(&seat, "fedcba9876543210", FM_ACCESS_CONTROL, &who), FM_ACCESS_GRANTED);
    struct fm_view_access view;
    fm_access_view(access, &view);
    CHECK_INT_EQ(view.tokens, 1);
    CHECK_INT_EQ(view.reloads, 1);
    CHECK_INT_EQ(view.reload_failures, 2);
    fm_access_seat_deinit(&seat);
    fm_access_destroy(access);
    (void)unlink(options.token_file);
}

TEST(ten_thousand_clients_and_the_maximum)
{
    struct fm_access_options options = {.limit = {SECOND, SECOND, 1}};
    struct fm_access *access = NULL;
    struct fm_access_seat seat;
    struct fm_access_who who;
    uint64_t wait_ns = 0;
    CHECK_INT_EQ(fm_access_create(&options, &access, NULL), 0);
    CHECK_INT_EQ(fm_access_seat_init(&seat, access, NULL), 0);
    const struct fm_access_credentials nothing = {0};
    struct fm_view_access view;
    for (uint32_t round = 0; round < 2; round++) {
        for (uint32_t i = 0; i < 10000; i++) {
            const struct fm_peer peer = {FM_PEER_IPV4,
                                         {10, (uint8_t)(i >> 16), (uint8_t)(i >> 8), (uint8_t)i}};
            CHECK_INT_EQ(fm_access_identify(&seat, &peer, &nothing, FM_ACCESS_INFER, &who), 0);
            CHECK_INT_EQ(fm_access_take(access, &who, START, &wait_ns),
                         round == 0 ? FM_ACCESS_GRANTED : FM_ACCESS_RATE);
        }
    }
    fm_access_view(access, &view);
    CHECK_INT_EQ(view.clients, 10000);
    CHECK_INT_EQ(view.evicted, 0);
    for (uint32_t i = 0; i < 3 * FM_ACCESS_CLIENTS_MAX; i++) {
        const struct fm_peer peer = {FM_PEER_IPV4,
                                     {11, (uint8_t)(i >> 16), (uint8_t)(i >> 8), (uint8_t)i}};
        CHECK_INT_EQ(fm_access_identify(&seat, &peer, &nothing, FM_ACCESS_INFER, &who), 0);
        CHECK_INT_EQ(fm_access_take(access, &who, START, &wait_ns), FM_ACCESS_GRANTED);
    }
    fm_access_view(access, &view);
    CHECK_INT_EQ(view.clients, FM_ACCESS_CLIENTS_MAX);
    CHECK_INT_EQ(view.evicted, 10000 + 2 * FM_ACCESS_CLIENTS_MAX);
    /* At once. */
    uint32_t slot = 0;
    uint32_t other = 0;
    CHECK_INT_EQ(fm_access_enter(access, &who, START, &slot), FM_ACCESS_GRANTED);
    CHECK_INT_NE(slot, 0);
    CHECK_INT_EQ(fm_access_enter(access, &who, START, &other), FM_ACCESS_IN_FLIGHT);
    CHECK_INT_EQ(other, 0);
    fm_access_leave(access, slot);
    fm_access_leave(access, 0);
    CHECK_INT_EQ(fm_access_enter(access, &who, START, &slot), FM_ACCESS_GRANTED);
    fm_access_leave(access, slot);
    fm_access_seat_deinit(&seat);
    fm_access_destroy(access);
}

TEST(a_refusal_says_which_scope_is_missing)
{
    static const struct {
        enum fm_access_class class;
        const char *scope;
    } classes[] = {{FM_ACCESS_HEALTH, "read"},
                   {FM_ACCESS_INFER, "infer"},
                   {FM_ACCESS_READ, "read"},
                   {FM_ACCESS_CONTROL, "control"},
                   {FM_ACCESS_OBSERVE, "observe"}};
    for (int i = 0; i < (int)(sizeof(classes) / sizeof(classes[0])); i++) {
        char text[100];
        char challenge[100];
        enum fm_access_class class = classes[i].class;
        (void)snprintf(text, sizeof(text),
                       "the token is good, but not for this: it needs the scope '%s'",
                       classes[i].scope);
        (void)snprintf(challenge, sizeof(challenge),
                       "Bearer error=\"insufficient_scope\", scope=\"%s\"", classes[i].scope);
        CHECK_STR_EQ(fm_access_verdict_text(FM_ACCESS_NO_SCOPE, class), text);
        CHECK_STR_EQ(fm_access_verdict_challenge(FM_ACCESS_NO_SCOPE, class), challenge);
        CHECK_STR_CONTAINS(fm_access_verdict_challenge(FM_ACCESS_NO_TOKEN, class), "Bearer realm");
        CHECK_STR_CONTAINS(fm_access_verdict_challenge(FM_ACCESS_BAD_TOKEN, class),
                           "invalid_token");
        CHECK(fm_access_verdict_challenge(FM_ACCESS_RATE, class) == NULL);
    }
}

TEST(origins_that_may)
{
    static const char *const names[] = {"https://a.example", "http://b.example:3000"};
    struct fm_access_options options = {.origins = names, .origin_count = 2};
    struct fm_access *access = NULL;
    CHECK_INT_EQ(fm_access_create(&options, &access, NULL), 0);
    CHECK_STR_CONTAINS(fm_access_cors(access, "https://a.example", false),
                       "Access-Control-Allow-Origin: https://a.example\r\n");
    CHECK_STR_CONTAINS(fm_access_cors(access, "http://b.example:3000", true),
                       "Access-Control-Allow-Headers: ");
    CHECK(fm_access_cors(access, "http://a.example", false) == NULL);
    CHECK(fm_access_cors(access, "null", false) == NULL);
    fm_access_destroy(access);
}

TEST_MAIN()
