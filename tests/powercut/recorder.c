/* Loaded into a writer with LD_PRELOAD: writes down, in order, what it does to the files called data.mdb.
 *
 * Each record of the log is a header and its data. A write is noted before it is done (from then on it may be on the
 * disk), a sync after it has returned (only then is it a promise). A mark is what the writer says to the descriptor of
 * a file called "marks": here it tells which commits it has acknowledged.
 *
 * The calls are those that LMDB and the store make (see the symbols of the lmdb module): LMDB maps its data file for
 * reading only, so nothing reaches it but through these. What would pass by unseen (msync, pwritev, fallocate) ends
 * the process.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define FDS_MAX 4096
#define REAL(name) ((name##_t)real_##name)

enum { WRITE = 'W', SIZE = 'S', DATASYNC = 'D', FULLSYNC = 'F', DIRECT = 'O', RENAME = 'R', FOLDER = 'P', MARK = 'M' };

struct header {
    uint8_t kind;
    uint8_t reserved[7];
    uint64_t file;   /* inode */
    uint64_t offset; /* or size */
    uint64_t length; /* of the data behind */
} __attribute__((packed));

typedef int (*open_t)(const char *, int, ...);
typedef ssize_t (*write_t)(int, const void *, size_t);
typedef ssize_t (*writev_t)(int, const struct iovec *, int);
typedef ssize_t (*pwrite_t)(int, const void *, size_t, off_t);
typedef int (*fsync_t)(int);
typedef int (*fdatasync_t)(int);
typedef int (*ftruncate_t)(int, off_t);
typedef int (*close_t)(int);
typedef int (*rename_t)(const char *, const char *);

static void *real_open, *real_write, *real_writev, *real_pwrite, *real_fsync, *real_fdatasync, *real_ftruncate,
    *real_close, *real_rename;
static char kinds[FDS_MAX]; /* d: data file, s: the same opened with O_DSYNC, m: marks, p: folder */
static uint64_t inodes[FDS_MAX];
static int log_fd = -1;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

__attribute__((constructor)) static void find_the_real_ones(void) {
    real_open = dlsym(RTLD_NEXT, "open");
    real_write = dlsym(RTLD_NEXT, "write");
    real_writev = dlsym(RTLD_NEXT, "writev");
    real_pwrite = dlsym(RTLD_NEXT, "pwrite");
    real_fsync = dlsym(RTLD_NEXT, "fsync");
    real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
    real_ftruncate = dlsym(RTLD_NEXT, "ftruncate");
    real_close = dlsym(RTLD_NEXT, "close");
    real_rename = dlsym(RTLD_NEXT, "rename");
}

static void note(char kind, uint64_t file, uint64_t offset, const void *data, uint64_t length) {
    struct header h = {.kind = (uint8_t)kind, .file = file, .offset = offset, .length = length};
    struct iovec parts[2] = {{&h, sizeof h}, {(void *)data, length}};
    pthread_mutex_lock(&lock);
    if (log_fd < 0) log_fd = REAL(open)(getenv("POWERCUT_LOG"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (REAL(writev)(log_fd, parts, 2) != (ssize_t)(sizeof h + length)) abort();
    pthread_mutex_unlock(&lock);
}

static char kind_of(int fd) { return fd >= 0 && fd < FDS_MAX ? kinds[fd] : 0; }

static void opened(int fd, const char *path, int flags) {
    struct stat found;
    const char *folder = getenv("POWERCUT_FOLDER"), *name = strrchr(path, '/');
    if (fd < 0 || fd >= FDS_MAX || !folder || strncmp(path, folder, strlen(folder)) != 0) return;
    name = name ? name + 1 : path;
    if (fstat(fd, &found) != 0) return;
    if (S_ISDIR(found.st_mode)) kinds[fd] = 'p';
    else if (strcmp(name, "data.mdb") == 0) kinds[fd] = flags & O_DSYNC ? 's' : 'd';
    else if (strcmp(name, "marks") == 0) kinds[fd] = 'm';
    inodes[fd] = found.st_ino;
    if (kinds[fd] == 'd' && (flags & O_CREAT)) note(RENAME, found.st_ino, 0, path, strlen(path));
}

int open(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    int fd = REAL(open)(path, flags, mode);
    opened(fd, path, flags);
    return fd;
}
int open64(const char *path, int flags, ...) __attribute__((alias("open")));

int close(int fd) {
    if (kind_of(fd)) kinds[fd] = 0;
    return REAL(close)(fd);
}

static void writing(int fd, const void *data, size_t length, off_t offset) {
    note(WRITE, inodes[fd], (uint64_t)offset, data, length);
}

static void written(int fd, ssize_t done, size_t length, off_t offset) {
    if (done >= 0 && (size_t)done != length) abort(); /* a short write: not of this experiment */
    if (kind_of(fd) == 's' && done >= 0) note(DIRECT, inodes[fd], (uint64_t)offset, NULL, 0);
}

ssize_t pwrite(int fd, const void *data, size_t length, off_t offset) {
    char kind = kind_of(fd);
    if (kind == 'd' || kind == 's') writing(fd, data, length, offset);
    ssize_t done = REAL(pwrite)(fd, data, length, offset);
    if (kind == 'd' || kind == 's') written(fd, done, length, offset);
    return done;
}
ssize_t pwrite64(int fd, const void *data, size_t length, off_t offset) __attribute__((alias("pwrite")));

ssize_t write(int fd, const void *data, size_t length) {
    char kind = kind_of(fd);
    if (kind == 'm') {
        note(MARK, 0, 0, data, length);
        return (ssize_t)length;
    }
    if (kind != 'd' && kind != 's') return REAL(write)(fd, data, length);
    off_t offset = lseek(fd, 0, SEEK_CUR);
    writing(fd, data, length, offset);
    ssize_t done = REAL(write)(fd, data, length);
    written(fd, done, length, offset);
    return done;
}

ssize_t writev(int fd, const struct iovec *parts, int count) {
    char kind = kind_of(fd);
    if (kind != 'd' && kind != 's') return REAL(writev)(fd, parts, count);
    off_t begin = lseek(fd, 0, SEEK_CUR), offset = begin;
    for (int i = 0; i < count; offset += (off_t)parts[i].iov_len, i++)
        writing(fd, parts[i].iov_base, parts[i].iov_len, offset);
    ssize_t done = REAL(writev)(fd, parts, count);
    written(fd, done, (size_t)(offset - begin), begin);
    return done;
}

int ftruncate(int fd, off_t size) {
    if (kind_of(fd) == 'd') note(SIZE, inodes[fd], (uint64_t)size, NULL, 0);
    return REAL(ftruncate)(fd, size);
}
int ftruncate64(int fd, off_t size) __attribute__((alias("ftruncate")));

int fdatasync(int fd) {
    int done = REAL(fdatasync)(fd);
    if (kind_of(fd) == 'd' && done == 0) note(DATASYNC, inodes[fd], 0, NULL, 0);
    return done;
}

int fsync(int fd) {
    int done = REAL(fsync)(fd);
    if (kind_of(fd) == 'd' && done == 0) note(FULLSYNC, inodes[fd], 0, NULL, 0);
    if (kind_of(fd) == 'p' && done == 0) note(FOLDER, inodes[fd], 0, NULL, 0);
    return done;
}

int rename(const char *from, const char *to) {
    struct stat found;
    const char *name = strrchr(from, '/');
    int ours = name && strcmp(name, "/data.mdb") == 0 && stat(from, &found) == 0;
    int done = REAL(rename)(from, to);
    if (ours && done == 0) note(RENAME, found.st_ino, 0, to, strlen(to));
    return done;
}

static void unseen(void) { abort(); }
int msync(void *at, size_t length, int flags) { unseen(); return at && length && flags; }
ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t offset) { unseen(); return fd + count + offset + !parts; }
int fallocate(int fd, int mode, off_t offset, off_t length) { unseen(); return (int)(fd + mode + offset + length); }
int posix_fallocate(int fd, off_t offset, off_t length) { unseen(); return (int)(fd + offset + length); }
