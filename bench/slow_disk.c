/* Loaded into every daemon of a cloud with LD_PRELOAD: a disk that takes longer.
 *
 * Each fsync and fdatasync, and each write through O_DSYNC (LMDB's meta pages), takes SLOW_DISK_US microseconds more, in
 * which the thread sleeps. What a commit is made of stays as it is: so many syncs, one after the other.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static struct timespec delay;

__attribute__((constructor)) static void begin(void) {
    const char *text = getenv("SLOW_DISK_US");
    long us = text ? strtol(text, NULL, 10) : 0;
    delay.tv_sec = us / 1000000;
    delay.tv_nsec = us % 1000000 * 1000;
}

static void wait_for_disk(void) {
    int number = errno;
    struct timespec left = delay;
    while (nanosleep(&left, &left) == -1 && errno == EINTR) continue;
    errno = number;
}

#define NEXT(result, name, ...) static result (*next)(__VA_ARGS__); if (!next) next = dlsym(RTLD_NEXT, name)

ssize_t pwrite(int fd, const void *data, size_t length, off_t offset) {
    NEXT(ssize_t, "pwrite", int, const void *, size_t, off_t);
    ssize_t done = next(fd, data, length, offset);
    if (fcntl(fd, F_GETFL) & O_DSYNC) wait_for_disk();
    return done;
}
ssize_t pwrite64(int fd, const void *data, size_t length, off_t offset) __attribute__((alias("pwrite")));
int fsync(int fd) {
    NEXT(int, "fsync", int);
    int done = next(fd);
    wait_for_disk();
    return done;
}
int fdatasync(int fd) {
    NEXT(int, "fdatasync", int);
    int done = next(fd);
    wait_for_disk();
    return done;
}
