/* Digests of blobs. Apart from the fetcher, so that who only keeps images is not linked with what fetches and unpacks them. */
#include <errno.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "image/fetch.h"

static void hex_digest(const unsigned char *digest, char ret[72])
{
    static const char digits[] = "0123456789abcdef";

    memcpy(ret, "sha256:", 7);
    for (size_t i = 0; i < 32; i++) {
        ret[7 + 2 * i] = digits[digest[i] >> 4];
        ret[8 + 2 * i] = digits[digest[i] & 15];
    }
    ret[71] = 0;
}

void fetch_sha256(struct str data, char ret[72])
{
    unsigned char digest[32];

    if (EVP_Digest(data.p, data.n, digest, NULL, EVP_sha256(), NULL) != 1)
        abort();
    hex_digest(digest, ret);
}

bool fetch_verify(int fd, struct str digest, struct error *err)
{
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    unsigned char raw[32];
    char data[64 << 10], got[72];
    ssize_t n = -1;

    if (lseek(fd, 0, SEEK_SET) == 0 && md && EVP_DigestInit_ex(md, EVP_sha256(), NULL) == 1)
        while ((n = read(fd, data, sizeof data)) > 0)
            EVP_DigestUpdate(md, data, (size_t)n);
    EVP_DigestFinal_ex(md, raw, NULL);
    EVP_MD_CTX_free(md);
    if (n < 0 || lseek(fd, 0, SEEK_SET) < 0)
        return error_errno(err, errno, "reading a blob");
    hex_digest(raw, got);
    if (!str_is(digest, got))
        return error_set(err, ERROR_INVALID, "a blob does not have its digest " STR_FMT ": the image is damaged", STR_ARG(digest));
    return true;
}
