/* A checkpoint of any bytes: read, or refused with a sentence. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "storage/checkpoint.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    char path[64], digest[LS_CHECKPOINT_DIGEST_CHARS];
    int fd = memfd_create("checkpoint", MFD_CLOEXEC);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size) {
        abort();
    }
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    ls_err err = LS_ERR_INIT;
    ls_checkpoint ckpt;
    if (ls_checkpoint_read(path, &ckpt, &err) == LS_OK) {
        ls_checkpoint_digest(&ckpt, digest);
        ls_checkpoint_release(&ckpt);
    } else if (strstr(err.text, path) == NULL) {
        abort();
    }
    close(fd);
    return 0;
}
