/* Loaded into every daemon of a test's cloud with LD_PRELOAD: a disk that refuses, and a clock that is set.
 *
 * What happens is said in a small file that all of them map: the errno with which whatever changes files under a folder
 * fails (0 = none), and how far the wall clock is off. So a disk falls ill and gets well under a running cloud, which a
 * remount cannot do while files are open for writing, and nobody else on the machine sees another time.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

struct control {
    volatile int64_t error;
    volatile int64_t clock_offset_s;
    volatile int64_t only_synced; /* fail only what is written through O_DSYNC: LMDB's meta pages */
};

static struct control healthy;
static struct control *control = &healthy;
static const char *under = "";

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("FAULTS_CONTROL"), *folder = getenv("FAULTS_UNDER");
    int fd = path ? (int)((int (*)(const char *, int, ...))dlsym(RTLD_NEXT, "open"))(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0 || !folder) return;
    void *found = mmap(NULL, sizeof *control, PROT_READ, MAP_SHARED, fd, 0);
    ((int (*)(int))dlsym(RTLD_NEXT, "close"))(fd);
    if (found == MAP_FAILED) return;
    control = found;
    under = folder;
}

static int path_fails(const char *path) {
    if (!control->error || !path || strncmp(path, under, strlen(under)) != 0) return 0;
    errno = (int)control->error;
    return 1;
}

static int fails(int fd) {
    char link[64], path[4096];
    if (!control->error) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    if (control->only_synced && !(fcntl(fd, F_GETFL) & O_DSYNC)) return 0;
    return path_fails(path);
}

#define NEXT(result, name, ...) static result (*next)(__VA_ARGS__); if (!next) next = dlsym(RTLD_NEXT, name)

ssize_t write(int fd, const void *data, size_t length) {
    NEXT(ssize_t, "write", int, const void *, size_t);
    return fails(fd) ? -1 : next(fd, data, length);
}
ssize_t writev(int fd, const struct iovec *parts, int count) {
    NEXT(ssize_t, "writev", int, const struct iovec *, int);
    return fails(fd) ? -1 : next(fd, parts, count);
}
ssize_t pwrite(int fd, const void *data, size_t length, off_t offset) {
    NEXT(ssize_t, "pwrite", int, const void *, size_t, off_t);
    return fails(fd) ? -1 : next(fd, data, length, offset);
}
ssize_t pwrite64(int fd, const void *data, size_t length, off_t offset) __attribute__((alias("pwrite")));
int fsync(int fd) {
    NEXT(int, "fsync", int);
    return fails(fd) ? -1 : next(fd);
}
int fdatasync(int fd) {
    NEXT(int, "fdatasync", int);
    return fails(fd) ? -1 : next(fd);
}
int ftruncate(int fd, off_t size) {
    NEXT(int, "ftruncate", int, off_t);
    return fails(fd) ? -1 : next(fd, size);
}
int ftruncate64(int fd, off_t size) __attribute__((alias("ftruncate")));
int open(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    NEXT(int, "open", const char *, int, ...);
    if (!control->only_synced && (flags & (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC)) && path_fails(path)) return -1;
    return next(path, flags, mode);
}
int open64(const char *path, int flags, ...) __attribute__((alias("open")));
int rename(const char *from, const char *to) {
    NEXT(int, "rename", const char *, const char *);
    return !control->only_synced && path_fails(to) ? -1 : next(from, to);
}
int unlink(const char *path) {
    NEXT(int, "unlink", const char *);
    return !control->only_synced && path_fails(path) ? -1 : next(path);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    NEXT(int, "clock_gettime", clockid_t, struct timespec *);
    int done = next(clock, now);
    if (done == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += control->clock_offset_s;
    return done;
}
int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    NEXT(int, "gettimeofday", struct timeval *, void *);
    int done = next(now, zone);
    if (done == 0) now->tv_sec += control->clock_offset_s;
    return done;
}
time_t time(time_t *at) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at) *at = now.tv_sec;
    return now.tv_sec;
}
