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

int fm_sha256(struct fm_digester *digester, const void *data, size_t size,
              uint8_t ret_digest[FM_SHA256_BYTES])
{
    if (EVP_DigestInit_ex2(digester->context, digester->kind, NULL) != 1 ||
        EVP_DigestUpdate(digester->context, data, size) != 1 ||
        EVP_DigestFinal_ex(digester->context, ret_digest, NULL) != 1) {
        ERR_clear_error();
        return FM_ENOMEM;
    }
    return 0;
}

bool fm_sha256_equal(const uint8_t left[FM_SHA256_BYTES], const uint8_t right[FM_SHA256_BYTES])
{
    return CRYPTO_memcmp(left, right, FM_SHA256_BYTES) == 0;
}
