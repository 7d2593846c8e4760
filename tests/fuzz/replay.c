/*
 * Gives every file of a folder to a fuzz target, without a fuzzer: the corpus as a regression test under any compiler
 * and sanitizer. Fails when there is no input, so that a folder that moved cannot pass.
 *
 *   replay_NAME DIR
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n_bytes);

/* 0 when the file was read whole and given to the target. */
static int replay_file(const char *path) {
    FILE *file = fopen(path, "rb");
    if (file == NULL) {
        perror(path);
        return -1;
    }
    fseek(file, 0, SEEK_END);
    long n_bytes = ftell(file);
    rewind(file);
    uint8_t *data = malloc(n_bytes > 0 ? (size_t)n_bytes : 1); /* exact, so that a read past the end is seen */
    int result = -1;
    if (n_bytes >= 0 && data != NULL && fread(data, 1, (size_t)n_bytes, file) == (size_t)n_bytes) {
        result = LLVMFuzzerTestOneInput(data, (size_t)n_bytes);
    }
    free(data);
    fclose(file);
    return result;
}

int main(int argc, char **argv) {
    DIR *dir = argc == 2 ? opendir(argv[1]) : NULL;
    if (dir == NULL) {
        fprintf(stderr, "usage: %s DIR, a folder of inputs\n", argv[0]);
        return 2;
    }
    int n_inputs = 0, n_unread = 0;
    for (struct dirent *entry = readdir(dir); entry != NULL; entry = readdir(dir)) {
        if (entry->d_name[0] == '.') continue;
        char path[4096];
        snprintf(path, sizeof path, "%s/%s", argv[1], entry->d_name);
        printf("%s\n", entry->d_name);
        fflush(stdout); /* the last name printed is the input that broke it */
        n_inputs++;
        n_unread += replay_file(path) != 0;
    }
    closedir(dir);
    printf("%d inputs, %d of them could not be read\n", n_inputs, n_unread);
    return n_inputs > 0 && n_unread == 0 ? 0 : 1;
}
