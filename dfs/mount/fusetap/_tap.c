/* The tap: all that a pyfuse3 session reads from and writes to /dev/fuse passes through here.
 *
 * How it gets there, without a change to pyfuse3 and without a private structure of libfuse:
 *   1. This module is loaded into the global symbol scope before pyfuse3, so the dynamic linker
 *      binds pyfuse3's fuse_session_new() to the one below.
 *   2. That calls the real one, found through the caller's own shared object: whichever libfuse
 *      pyfuse3 was linked with. Then libfuse's public fuse_session_custom_io() (3.13) puts
 *      tap_read() and tap_writev() in the place of read(2) and writev(2) of this session.
 *   3. Behind that there is only the kernel's wire format (linux/fuse.h), which never changes.
 *
 * Everything is called from the event loop's thread, but notifications: those have no reply, come
 * from any thread, and touch nothing of `tap` but its descriptor. Nothing here calls into Python.
 *
 * State of the polling, per session:
 *   pays    whoever has answered polls           more polls in vain than not → does not
 *   does    nobody polls, so an idle mount       so many requests in a row that came soon
 *   not     costs nothing                        after the reply before → pays
 * How many doubles with each poll that was given up, and begins anew when polling pays well.
 */
#define PY_SSIZE_T_CLEAN
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <Python.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdint.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define EXPORTED __attribute__((visibility("default"), noinline))

/* Wire format; names as in linux/fuse.h. */
struct in_header { uint32_t len, opcode; uint64_t unique, nodeid; uint32_t uid, gid, pid, extension; };
struct out_header { uint32_t len; int32_t error; uint64_t unique; };
struct init_in { uint32_t major, minor, max_readahead, flags; };
struct init_out { uint32_t major, minor, max_readahead, flags; };
struct open_out { uint64_t fh; uint32_t open_flags; int32_t backing_id; };
enum {
    OP_FORGET = 2, OP_OPEN = 14, OP_INIT = 26, OP_OPENDIR = 27, OP_CREATE = 35, OP_INTERRUPT = 36,
    OP_NOTIFY_REPLY = 41, OP_BATCH_FORGET = 42,
};
enum { INTERRUPT_BIT = 1 }; /* of `unique`: the number of an INTERRUPT itself */

/* struct fuse_custom_io of libfuse as of 3.13; later versions only append. */
struct custom_io {
    ssize_t (*writev)(int, struct iovec *, int, void *);
    ssize_t (*read)(int, void *, size_t, void *);
    void *splice_receive, *splice_send;
};

enum { HEAD_BYTES = 64 };        /* header, and the fixed part of every request that is looked at */
enum { AMENDED_AT_ONCE_MAX = 256 }; /* more than pyfuse3 has tasks */
enum { CREDIT_MAX = 4, PAYS_WELL_COUNT = 64 };
enum { SHORT_GAPS_MIN = 2, SHORT_GAPS_MAX = 1024 };
/* A gap is short if a poll would have met the request; a sleeper sees it longer by its wake-up. */
enum { SHORT_GAP_IN_POLLS = 2 };
enum verdict { SLEEP, READY, YIELD };

static struct {
    /* the session */
    int is_armed, is_attached, error;
    int fd;    /* of /dev/fuse; -1 until the first read */
    int spare; /* libfuse wants a descriptor before it has one; -1 when given back */
    char library[512];
    /* INIT */
    uint32_t flags_added, flags_offered, flags_agreed;
    /* requests */
    char head[HEAD_BYTES]; /* of the request read last */
    size_t head_bytes;
    int64_t in_flight; /* read and not answered */
    struct { uint64_t unique; uint32_t opcode; } amended[AMENDED_AT_ONCE_MAX];
    size_t amended_count; /* requests in flight whose reply is changed on its way */
    /* polling */
    int64_t poll_ns, turn_ns; /* how long a poll lasts; how long others may have to wait for a turn */
    int64_t turn_start_ns, idle_start_ns;
    int pays, was_polled;
    int credit;                    /* one less with each poll in vain, one more with each other */
    int found_in_a_row;
    int short_count, short_needed; /* gaps in a row */
    uint64_t request_count, found_count, vain_count, sleep_count;
} tap = { .fd = -1, .spare = -1 };

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static int is_readable(void)
{
    struct pollfd one = { .fd = tap.fd, .events = POLLIN };
    return poll(&one, 1, 0) != 0; /* for an end of the connection too: the read tells */
}

/* ------------------------------------------------------------------- from the kernel */

/* The first read of a session: now libfuse has its descriptor. */
static void begin(int fd)
{
    if (tap.spare >= 0 && tap.spare != fd)
        close(tap.spare);
    tap.spare = -1;
    tap.fd = fd;
    /* A request that is withdrawn between poll and read would block the event loop otherwise. */
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

static int has_reply(const struct in_header *request)
{
    switch (request->opcode) {
    case OP_FORGET: case OP_BATCH_FORGET: case OP_INTERRUPT: case OP_NOTIFY_REPLY:
        return 0;
    default:
        return 1;
    }
}

static void note_gap(void)
{
    int64_t now = now_ns();
    if (!tap.was_polled)
        tap.turn_start_ns = now; /* it slept, so everybody had a turn */
    tap.was_polled = 0;
    if (tap.pays || tap.in_flight > 0)
        return;
    if (now - tap.idle_start_ns > SHORT_GAP_IN_POLLS * tap.poll_ns)
        tap.short_count = 0;
    else if (++tap.short_count >= tap.short_needed) {
        tap.pays = 1;
        tap.credit = CREDIT_MAX;
    }
}

static void note_poll(int is_found)
{
    if (is_found) {
        if (tap.credit < CREDIT_MAX)
            tap.credit++;
        if (++tap.found_in_a_row >= PAYS_WELL_COUNT)
            tap.short_needed = SHORT_GAPS_MIN;
        return;
    }
    tap.vain_count++;
    tap.found_in_a_row = 0;
    if (--tap.credit > 0)
        return;
    tap.pays = 0;
    tap.short_count = 0;
    if (tap.short_needed < SHORT_GAPS_MAX)
        tap.short_needed *= 2;
}

static void note_request(const struct in_header *request, size_t bytes)
{
    tap.request_count++;
    tap.head_bytes = bytes < HEAD_BYTES ? bytes : HEAD_BYTES;
    memcpy(tap.head, request, tap.head_bytes);
    if (!has_reply(request))
        return;
    note_gap();
    tap.in_flight++;
    switch (request->opcode) {
    case OP_INIT: case OP_OPEN: case OP_OPENDIR: case OP_CREATE:
        if (tap.amended_count < AMENDED_AT_ONCE_MAX) {
            tap.amended[tap.amended_count].unique = request->unique;
            tap.amended[tap.amended_count++].opcode = request->opcode;
        }
    }
    if (request->opcode == OP_INIT && bytes >= sizeof *request + sizeof(struct init_in)) {
        struct init_in init;
        memcpy(&init, request + 1, sizeof init);
        tap.flags_offered = init.flags;
    }
}

static ssize_t tap_read(int fd, void *buffer, size_t size, void *userdata)
{
    (void)userdata;
    if (tap.fd != fd)
        begin(fd);
    ssize_t bytes = read(fd, buffer, size);
    if (bytes >= (ssize_t)sizeof(struct in_header))
        note_request(buffer, bytes);
    else if (bytes < 0 && errno == EAGAIN)
        errno = EINTR; /* pyfuse3 takes this one for "try again", the other for the end */
    return bytes;
}

/* ------------------------------------------------------------------- to the kernel */

/* What pyfuse3 and libfuse chose, with our flags; of those, only what the kernel offered. */
static void amend_init(struct iovec *body)
{
    struct init_out init;
    if (body->iov_len < sizeof init)
        return;
    memcpy(&init, body->iov_base, sizeof init);
    init.flags |= tap.flags_added & tap.flags_offered;
    tap.flags_agreed = init.flags;
    memcpy(body->iov_base, &init, sizeof init);
}

/* The top byte of a handle's number is the reply's further FOPEN_ flags: see wire.py. */
static void amend_open(struct iovec *body)
{
    struct open_out open;
    if (body->iov_len < sizeof open)
        return;
    char *end = (char *)body->iov_base + body->iov_len;
    memcpy(&open, end - sizeof open, sizeof open); /* a CREATE's comes behind the entry */
    open.open_flags |= open.fh >> 56;
    memcpy(end - sizeof open, &open, sizeof open);
}

static void amend(const struct out_header *reply, struct iovec *body)
{
    for (size_t i = 0; i < tap.amended_count; i++) {
        if (tap.amended[i].unique != reply->unique)
            continue;
        uint32_t opcode = tap.amended[i].opcode;
        tap.amended[i] = tap.amended[--tap.amended_count];
        if (reply->error || !body)
            return;
        if (opcode == OP_INIT)
            amend_init(body);
        else
            amend_open(body);
        return;
    }
}

static ssize_t tap_writev(int fd, struct iovec *parts, int count, void *userdata)
{
    (void)userdata;
    const struct out_header *reply = parts[0].iov_base;
    int is_reply = reply->unique && !(reply->unique & INTERRUPT_BIT);
    if (is_reply)
        amend(reply, count > 1 ? &parts[count - 1] : NULL);
    ssize_t bytes = writev(fd, parts, count);
    if (is_reply && --tap.in_flight == 0) {
        int error = errno;
        tap.idle_start_ns = now_ns();
        errno = error;
    }
    return bytes;
}

/* ------------------------------------------------------------------- getting in */

/* `name` as the shared object around `caller` sees it: in itself and in what it was linked with. */
static void *real(void *caller, const char *name)
{
    Dl_info info;
    if (!dladdr(caller, &info) || !info.dli_fname)
        return NULL;
    void *object = dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
    if (!object)
        return NULL;
    void *function = dlsym(object, name);
    dlclose(object);
    if (function && dladdr(function, &info) && info.dli_fname)
        snprintf(tap.library, sizeof tap.library, "%s", info.dli_fname);
    return function;
}

static void attach(void *caller, void *session)
{
    static const struct custom_io io = { .writev = tap_writev, .read = tap_read };
    if (!session || !tap.is_armed)
        return;
    tap.is_armed = 0; /* for one session */
    /* Mounting puts the descriptor of /dev/fuse in the place of this one, which nobody uses. */
    tap.spare = open("/dev/null", O_RDWR | O_CLOEXEC);
    int (*since_3_17)(void *, const void *, size_t, int) = real(caller, "fuse_session_custom_io_317");
    int (*since_3_13)(void *, const void *, int) = real(caller, "fuse_session_custom_io");
    if (since_3_17)
        tap.error = -since_3_17(session, &io, sizeof io, tap.spare);
    else if (since_3_13)
        tap.error = -since_3_13(session, &io, tap.spare);
    else
        tap.error = ENOSYS;
    tap.is_attached = tap.error == 0;
    if (!tap.is_attached && tap.spare >= 0) {
        close(tap.spare);
        tap.spare = -1;
    }
}

EXPORTED void *fuse_session_new(void *arguments, const void *operations, size_t size, void *userdata)
{
    void *caller = __builtin_return_address(0);
    void *(*create)(void *, const void *, size_t, void *) = real(caller, "fuse_session_new");
    if (!create)
        return NULL;
    void *session = create(arguments, operations, size, userdata);
    attach(caller, session);
    return session;
}

/* What the macro of this name calls since libfuse 3.17. */
EXPORTED void *fuse_session_new_versioned(void *arguments, const void *operations, size_t size,
                                          void *version, void *userdata)
{
    void *caller = __builtin_return_address(0);
    void *(*create)(void *, const void *, size_t, void *, void *) =
        real(caller, "fuse_session_new_versioned");
    if (!create)
        return NULL;
    void *session = create(arguments, operations, size, version, userdata);
    attach(caller, session);
    return session;
}

/* ------------------------------------------------------------------- for Python */

static PyObject *arm(PyObject *module, PyObject *args)
{
    unsigned int flags_added;
    long long poll_ns, turn_ns;
    (void)module;
    if (!PyArg_ParseTuple(args, "ILL", &flags_added, &poll_ns, &turn_ns))
        return NULL;
    memset(&tap, 0, sizeof tap);
    tap.fd = tap.spare = -1;
    tap.is_armed = 1;
    tap.flags_added = flags_added;
    tap.poll_ns = poll_ns;
    tap.turn_ns = turn_ns;
    tap.short_needed = SHORT_GAPS_MIN;
    Py_RETURN_NONE;
}

static PyObject *poll_once(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    if (tap.fd < 0)
        return PyLong_FromLong(SLEEP);
    int64_t now = now_ns();
    if (now - tap.turn_start_ns > tap.turn_ns) {
        tap.turn_start_ns = now;
        tap.was_polled = 1;
        return PyLong_FromLong(YIELD);
    }
    int is_found = is_readable();
    if (!is_found && tap.poll_ns && tap.pays && tap.in_flight <= 0) {
        int64_t end = now + tap.poll_ns;
        Py_BEGIN_ALLOW_THREADS
        /* Without sched_yield(): it hands the CPU to the servers of a cluster on this machine for
         * longer than a wake-up takes. */
        while (!(is_found = is_readable()) && now_ns() < end)
            ;
        Py_END_ALLOW_THREADS
        note_poll(is_found);
    }
    if (!is_found) {
        tap.sleep_count++;
        return PyLong_FromLong(SLEEP);
    }
    tap.found_count++;
    tap.was_polled = 1;
    return PyLong_FromLong(READY);
}

static PyObject *last_request(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    return PyBytes_FromStringAndSize(tap.head, tap.head_bytes);
}

static PyObject *notify(PyObject *module, PyObject *args)
{
    int code;
    Py_buffer payload;
    (void)module;
    if (!PyArg_ParseTuple(args, "iy*", &code, &payload))
        return NULL;
    struct out_header header = { .len = sizeof header + payload.len, .error = code };
    struct iovec parts[] = { { &header, sizeof header }, { payload.buf, payload.len } };
    ssize_t bytes;
    Py_BEGIN_ALLOW_THREADS /* the kernel may wait for a page or a directory */
    bytes = writev(tap.fd, parts, payload.len ? 2 : 1);
    Py_END_ALLOW_THREADS
    PyBuffer_Release(&payload);
    if (bytes < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    Py_RETURN_NONE;
}

static PyObject *is_in_front(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    return PyBool_FromLong(dlsym(RTLD_DEFAULT, "fuse_session_new") == (void *)fuse_session_new);
}

static PyObject *status(PyObject *module, PyObject *unused)
{
    (void)module;
    (void)unused;
    return Py_BuildValue("{s:O,s:i,s:s,s:I,s:I,s:L,s:O,s:K,s:K,s:K,s:K}",
                         "is_attached", tap.is_attached ? Py_True : Py_False, "error", tap.error,
                         "library", tap.library, "flags_offered", tap.flags_offered, "flags_agreed",
                         tap.flags_agreed, "in_flight", (long long)tap.in_flight, "is_polling",
                         tap.pays ? Py_True : Py_False, "request_count",
                         (unsigned long long)tap.request_count, "found_count",
                         (unsigned long long)tap.found_count, "vain_count",
                         (unsigned long long)tap.vain_count, "sleep_count",
                         (unsigned long long)tap.sleep_count);
}

static PyMethodDef methods[] = {
    { "arm", arm, METH_VARARGS, "Tap the session that is made next." },
    { "poll", poll_once, METH_NOARGS, "Is a request there, soon? One of SLEEP, READY, YIELD." },
    { "last_request", last_request, METH_NOARGS, "The head of the request that was read last." },
    { "notify", notify, METH_VARARGS, "Send a notification; may wait for the kernel." },
    { "is_in_front", is_in_front, METH_NOARGS, "Do later libraries get our fuse_session_new?" },
    { "status", status, METH_NOARGS, "What was agreed, and counters." },
    { NULL, NULL, 0, NULL },
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_tap", "The tap on a pyfuse3 session.", -1, methods, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__tap(void)
{
    PyObject *module = PyModule_Create(&definition);
    if (module && (PyModule_AddIntConstant(module, "SLEEP", SLEEP) ||
                   PyModule_AddIntConstant(module, "READY", READY) ||
                   PyModule_AddIntConstant(module, "YIELD", YIELD))) {
        Py_DECREF(module);
        return NULL;
    }
    return module;
}
