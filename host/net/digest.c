/*
 * SHA-256 with OpenSSL. See digest.h.
 */
#include "host/net/digest.h"

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>

#include "core/util/memory.h"

struct fm_digester {
    EVP_MD *kind;
    EVP_MD_CTX *context;
};

struct fm_digester *fm_digester_create(void)
{
    struct fm_digester *digester = fm_alloc_zero(1, sizeof *digester);
    if (digester == NULL) {
        return NULL;
    }
    digester->kind = EVP_MD_fetch(NULL, "SHA256", NULL);
    digester->context = EVP_MD_CTX_new();
    if (digester->kind == NULL || digester->context == NULL) {
        ERR_clear_error();
        fm_digester_destroy(digester);
        return NULL;
    }
    return digester;
}

void fm_digester_destroy(struct fm_digester *digester)
{
    if (digester != NULL) {
        EVP_MD_CTX_free(digester->context);
        EVP_MD_free(digester->kind);
        fm_free(digester);
    }
}

/* What OpenSSL has to say of it is of no use to anybody: there was no memory. */
static int outcome(int of)
{
    if (of == 1) {
        return 0;
    }
    ERR_clear_error();
    return FM_ENOMEM;
}

int fm_sha256_begin(struct fm_digester *digester)
{
    return outcome(EVP_DigestInit_ex2(digester->context, digester->kind, NULL));
}

int fm_sha256_add(struct fm_digester *digester, const void *data, size_t size)
{
    return outcome(EVP_DigestUpdate(digester->context, data, size));
}

int fm_sha256_end(struct fm_digester *digester, uint8_t ret_digest[FM_SHA256_BYTES])
{
    return outcome(EVP_DigestFinal_ex(digester->context, ret_digest, NULL));
}

int fm_sha256(struct fm_digester *digester, const void *data, size_t size,
              uint8_t ret_digest[FM_SHA256_BYTES])
{
    int status = fm_sha256_begin(digester);
    status = status != 0 ? status : fm_sha256_add(digester, data, size);
    return status != 0 ? status : fm_sha256_end(digester, ret_digest);
}

bool fm_sha256_equal(const uint8_t left[FM_SHA256_BYTES], const uint8_t right[FM_SHA256_BYTES])
{
    return CRYPTO_memcmp(left, right, FM_SHA256_BYTES) == 0;
}
