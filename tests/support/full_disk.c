/* A disk that fills up: files under $FULL_DISK_UNDER take $FULL_DISK_BYTES in all, then ENOSPC.
   Preloaded by tests/test_full_disk.py; covers the calls that Python, SQLite, safetensors and
   torch.save use. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static _Atomic long written;

static int full(int fd, size_t count) {
    const char *under = getenv("FULL_DISK_UNDER"), *limit = getenv("FULL_DISK_BYTES");
    char link[64], path[4096];
    if (!under || !limit) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    if (strncmp(path, under, strlen(under))) return 0;
    if (atomic_fetch_add(&written, (long)count) + (long)count <= atol(limit)) return 0;
    errno = ENOSPC;
    return 1;
}

ssize_t write(int fd, const void *data, size_t count) {
    static ssize_t (*next)(int, const void *, size_t);
    if (!next) next = dlsym(RTLD_NEXT, "write");
    return full(fd, count) ? -1 : next(fd, data, count);
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    static ssize_t (*next)(int, const struct iovec *, int);
    if (!next) next = dlsym(RTLD_NEXT, "writev");
    size_t all = 0;
    for (int i = 0; i < count; i++) all += parts[i].iov_len;
    return full(fd, all) ? -1 : next(fd, parts, count);
}

ssize_t pwrite64(int fd, const void *data, size_t count, off_t at) {
    static ssize_t (*next)(int, const void *, size_t, off_t);
    if (!next) next = dlsym(RTLD_NEXT, "pwrite64");
    return full(fd, count) ? -1 : next(fd, data, count, at);
}

ssize_t pwrite(int fd, const void *data, size_t count, off_t at) {
    return pwrite64(fd, data, count, at);
}
