/* The usual execution, compiled: what `usual.py` says, byte for byte in the ring and attribute for attribute.
 *
 * Between two requests, after hundreds of kernel launches, nothing of ours is in the CPU's caches. What counts is how many
 * of their lines are touched, not how many instructions run: so all that an execution needs lies in a few small structs.
 * Whatever is not usual is left to Python (`_full_execution`, `Lane.end`). Linux, little-endian; callers hold the GIL.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "records are little-endian"
#endif

/* Of schemas/ring.py, control_page.py and profiles.py; `usual.py` compares them when it is imported. */
#define HEADER_BYTES 4096
#define RECORD_BYTES 128
#define WRITTEN_OFFSET 64
#define SHAPE_BYTES 68
#define UNKNOWN_NS UINT64_MAX
#define ORDERED_OFFSET 64
#define IN_GRAPH 4

#define RARE(condition) __builtin_expect(!!(condition), 0)

typedef struct {
    uint64_t position, end_unix_ns, end_to_end_ns, host_ns;
    uint16_t profile, flags;
    uint32_t context, since_change;
    uint8_t shape[SHAPE_BYTES];
    uint64_t request_id;
    uint32_t zero, checksum;
} Record;
_Static_assert(sizeof(Record) == RECORD_BYTES && offsetof(Record, request_id) == 112, "as in schemas/ring.py");

typedef struct {
    PyObject_HEAD
    long long free, passed, version; /* what an execution looks at comes first */
    long long seen, renew_at;
    double credit, root, share;
} Stratum;

typedef struct {
    PyObject_HEAD
    Stratum *stratum;
    PyObject *shapes; /* a dict, or None */
    uint32_t number;
    uint16_t profile;
    uint8_t packed[SHAPE_BYTES];
    PyObject *shape;
} Look;

typedef struct {
    PyObject_HEAD
    Look *look;
    long long since_change;
    PyObject *others; /* dict of looks by shapes */
} Seen;

typedef struct {
    Look *look; /* NULL: nothing is deferred */
    int64_t start_ns, launched_ns, end_ns;
    uint64_t request_id;
    uint32_t since_change;
    uint16_t flags;
} Left;

typedef struct {
    PyObject_HEAD
    char closed, detached, is_busy, owes, one_profile;
    uint32_t generation;
    const uint32_t *ordered; /* the generation of the order on the page */
    PyObject *context;       /* whose Seen is `last`; only its address is used */
    Seen *last;
    const void *near[2]; /* what `last` will lead to, most likely: only to be fetched meanwhile */
    long long version, expires_ns, last_end_ns, busy_ns;
    uint8_t *ring;
    uint64_t mask;
    Left left;
    PyObject *seen; /* dict of Seen by id of the context */
    Py_buffer ring_view, page_view;
} LaneBase;

typedef struct {
    PyObject_HEAD
    LaneBase *lane; /* NULL: not watched, or over */
    PyObject *context;
    Look *look;
    long long start_ns, launched_ns, end_ns;
    unsigned long long request_id;
    unsigned int since_change, flags;
} Run;

typedef struct {
    PyObject_HEAD
    uint64_t serial;
    PyObject *local;
} ProbeBase;

static PyTypeObject StratumType, LookType, SeenType, LaneType, RunType, ProbeType;
static PyObject *s_lane, *s_full, *s_end, *s_fail, *s_profile, *s_graph, *s_request_id, *s_shapes;
static uint64_t probes_made;
/* Where this thread was last; a serial number is never used twice, and a probe keeps its lanes. */
static __thread struct {
    uint64_t serial;
    LaneBase *lane;
} here;

static inline int64_t now_ns(clockid_t clock) {
    struct timespec now;
    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

/* CRC-32 as zlib's, eight half bytes at a time: `crc_table[k][n]` is that of n with k half bytes of zeros behind it. One after
 * the other they took 0.3 us more; a table by whole bytes would be 64 lines of the cache. */
static uint32_t crc_table[8][16] __attribute__((aligned(64)));

static void fill_crc_table(void) {
    for (uint32_t n = 0; n < 16; n++) {
        uint32_t crc = n;
        for (int bit = 0; bit < 4; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
        crc_table[0][n] = crc;
    }
    for (int k = 1; k < 8; k++)
        for (int n = 0; n < 16; n++)
            crc_table[k][n] = crc_table[k - 1][n] >> 4 ^ crc_table[0][crc_table[k - 1][n] & 15];
}

/* Of whole words of four bytes. */
static uint32_t crc32_of(const uint8_t *data, size_t size) {
    uint32_t crc = UINT32_MAX;
    for (size_t i = 0; i < size; i += 4) {
        uint32_t word;
        memcpy(&word, data + i, 4);
        crc ^= word;
        crc = crc_table[7][crc & 15] ^ crc_table[6][crc >> 4 & 15] ^ crc_table[5][crc >> 8 & 15] ^
              crc_table[4][crc >> 12 & 15] ^ crc_table[3][crc >> 16 & 15] ^ crc_table[2][crc >> 20 & 15] ^
              crc_table[1][crc >> 24 & 15] ^ crc_table[0][crc >> 28];
    }
    return ~crc;
}

static void write_record(LaneBase *lane, const Look *look, const Left *left) {
    uint64_t *written = (uint64_t *)(lane->ring + WRITTEN_OFFSET);
    Record record = {
        .position = *written,
        .end_unix_ns = (uint64_t)(now_ns(CLOCK_REALTIME) - (now_ns(CLOCK_MONOTONIC) - left->end_ns)),
        .end_to_end_ns = (uint64_t)(left->end_ns - left->start_ns),
        .host_ns = left->launched_ns ? (uint64_t)(left->launched_ns - left->start_ns) : UNKNOWN_NS,
        .profile = look->profile,
        .flags = left->flags,
        .context = look->number,
        .since_change = left->since_change,
        .request_id = left->request_id,
    };
    memcpy(record.shape, look->packed, SHAPE_BYTES);
    record.checksum = crc32_of((const uint8_t *)&record, RECORD_BYTES - 4);
    memcpy(lane->ring + HEADER_BYTES + (record.position & lane->mask) * RECORD_BYTES, &record, RECORD_BYTES);
    __atomic_store_n(written, record.position + 1, __ATOMIC_RELEASE);
}

static void write_left(LaneBase *lane) {
    Look *look = lane->left.look;
    if (look == NULL)
        return;
    lane->left.look = NULL;
    if (!lane->detached)
        write_record(lane, look, &lane->left);
    Py_DECREF(look);
}

/* Nothing of ours may reach the caller: what `done` has raised, or an error that is set, is counted by the lane. */
static void contain(LaneBase *lane, PyObject *done) {
    if (done == NULL) {
        PyErr_Clear();
        done = PyObject_CallMethodObjArgs((PyObject *)lane, s_fail, NULL);
        if (done == NULL)
            PyErr_Clear();
    }
    Py_XDECREF(done);
}

/* -- Stratum ------------------------------------------------------------------------------------------------------- */

static PyMemberDef stratum_members[] = {
    {"free", T_LONGLONG, offsetof(Stratum, free), 0, NULL},
    {"passed", T_LONGLONG, offsetof(Stratum, passed), 0, NULL},
    {"version", T_LONGLONG, offsetof(Stratum, version), 0, NULL},
    {"seen", T_LONGLONG, offsetof(Stratum, seen), 0, NULL},
    {"renew_at", T_LONGLONG, offsetof(Stratum, renew_at), 0, NULL},
    {"credit", T_DOUBLE, offsetof(Stratum, credit), 0, NULL},
    {"root", T_DOUBLE, offsetof(Stratum, root), 0, NULL},
    {"share", T_DOUBLE, offsetof(Stratum, share), 0, NULL},
    {NULL},
};

static int stratum_init(Stratum *self, PyObject *args, PyObject *kwargs) {
    if (!PyArg_ParseTuple(args, ":Stratum"))
        return -1;
    self->version = -1;
    self->credit = 0.5; /* half way to its first sample */
    return 0;
}

static PyTypeObject StratumType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "layerwatch.probe._usual.Stratum",
    .tp_basicsize = sizeof(Stratum),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = PyType_GenericNew,
    .tp_init = (initproc)stratum_init,
    .tp_members = stratum_members,
};

/* -- Look ---------------------------------------------------------------------------------------------------------- */

static int look_init(Look *self, PyObject *args, PyObject *kwargs) {
    PyObject *shape, *stratum, *shapes, *packed;
    if (!PyArg_ParseTuple(args, "HIOO!O:Look", &self->profile, &self->number, &shape, &StratumType, &stratum, &shapes))
        return -1;
    packed = PyObject_GetAttrString(shape, "packed");
    if (packed == NULL)
        return -1;
    if (!PyBytes_Check(packed) || PyBytes_GET_SIZE(packed) > SHAPE_BYTES || !(PyDict_Check(shapes) || shapes == Py_None)) {
        Py_DECREF(packed);
        PyErr_SetString(PyExc_TypeError, "Look(profile, number, shape, stratum, shapes)");
        return -1;
    }
    memset(self->packed, 0, SHAPE_BYTES);
    memcpy(self->packed, PyBytes_AS_STRING(packed), (size_t)PyBytes_GET_SIZE(packed));
    Py_DECREF(packed);
    Py_INCREF(shape);
    Py_XSETREF(self->shape, shape);
    Py_INCREF(stratum);
    Py_XSETREF(self->stratum, (Stratum *)stratum);
    Py_INCREF(shapes);
    Py_XSETREF(self->shapes, shapes);
    return 0;
}

static void look_dealloc(Look *self) {
    Py_XDECREF(self->stratum);
    Py_XDECREF(self->shapes);
    Py_XDECREF(self->shape);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyMemberDef look_members[] = {
    {"profile", T_USHORT, offsetof(Look, profile), READONLY, NULL},
    {"number", T_UINT, offsetof(Look, number), READONLY, NULL},
    {"shape", T_OBJECT_EX, offsetof(Look, shape), READONLY, NULL},
    {"stratum", T_OBJECT_EX, offsetof(Look, stratum), READONLY, NULL},
    {"shapes", T_OBJECT_EX, offsetof(Look, shapes), READONLY, NULL},
    {NULL},
};

static PyTypeObject LookType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "layerwatch.probe._usual.Look",
    .tp_basicsize = sizeof(Look),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = PyType_GenericNew,
    .tp_init = (initproc)look_init,
    .tp_dealloc = (destructor)look_dealloc,
    .tp_members = look_members,
};

static int replace_look(Look **kept, PyObject *look) {
    if (look == NULL || !Py_IS_TYPE(look, &LookType)) {
        PyErr_SetString(PyExc_TypeError, "look is a Look");
        return -1;
    }
    Py_INCREF(look);
    Py_SETREF(*kept, (Look *)look);
    return 0;
}

/* -- Seen ---------------------------------------------------------------------------------------------------------- */

static int seen_init(Seen *self, PyObject *args, PyObject *kwargs) {
    PyObject *look;
    if (!PyArg_ParseTuple(args, "O!:Seen", &LookType, &look))
        return -1;
    Py_INCREF(look);
    Py_XSETREF(self->look, (Look *)look);
    Py_XSETREF(self->others, PyDict_New());
    return self->others == NULL ? -1 : 0;
}

static void seen_dealloc(Seen *self) {
    Py_XDECREF(self->look);
    Py_XDECREF(self->others);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyObject *seen_get_look(Seen *self, void *unused) {
    Py_INCREF(self->look);
    return (PyObject *)self->look;
}

static int seen_set_look(Seen *self, PyObject *look, void *unused) {
    return replace_look(&self->look, look);
}

static PyGetSetDef seen_properties[] = {
    {"look", (getter)seen_get_look, (setter)seen_set_look, NULL, NULL},
    {NULL},
};

static PyMemberDef seen_members[] = {
    {"since_change", T_LONGLONG, offsetof(Seen, since_change), 0, NULL},
    {"others", T_OBJECT_EX, offsetof(Seen, others), READONLY, NULL},
    {NULL},
};

static PyTypeObject SeenType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "layerwatch.probe._usual.Seen",
    .tp_basicsize = sizeof(Seen),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_new = PyType_GenericNew,
    .tp_init = (initproc)seen_init,
    .tp_dealloc = (destructor)seen_dealloc,
    .tp_members = seen_members,
    .tp_getset = seen_properties,
};

/* -- LaneBase ------------------------------------------------------------------------------------------------------ */

/* The memory of `owner.map`. */
static int view(PyObject *owner, Py_buffer *into, int flags) {
    PyObject *map = PyObject_GetAttrString(owner, "map");
    int got = map == NULL ? -1 : PyObject_GetBuffer(map, into, flags);
    Py_XDECREF(map);
    return got;
}

static int lane_init(LaneBase *self, PyObject *args, PyObject *kwargs) {
    PyObject *ring, *page;
    int one_profile;
    if (!PyArg_ParseTuple(args, "OOp:LaneBase", &ring, &page, &one_profile))
        return -1;
    if (self->seen != NULL) {
        PyErr_SetString(PyExc_TypeError, "a lane is made once");
        return -1;
    }
    if (view(ring, &self->ring_view, PyBUF_WRITABLE) < 0 || view(page, &self->page_view, PyBUF_SIMPLE) < 0)
        return -1;
    uint64_t records = ((uint64_t)self->ring_view.len - HEADER_BYTES) / RECORD_BYTES;
    if (self->ring_view.len < HEADER_BYTES + RECORD_BYTES || (records & (records - 1)) != 0 ||
        self->page_view.len < ORDERED_OFFSET + 4) {
        PyErr_SetString(PyExc_ValueError, "this is no ring, or no page");
        return -1;
    }
    self->ring = self->ring_view.buf;
    self->mask = records - 1;
    self->ordered = (const uint32_t *)((const uint8_t *)self->page_view.buf + ORDERED_OFFSET);
    self->one_profile = (char)one_profile;
    self->version = -1;
    self->seen = PyDict_New();
    return self->seen == NULL ? -1 : 0;
}

static PyObject *lane_forget(LaneBase *self, PyObject *unused) {
    self->context = NULL;
    Py_CLEAR(self->last);
    PyDict_Clear(self->seen);
    Py_RETURN_NONE;
}

static void lane_dealloc(LaneBase *self) {
    Py_XDECREF(self->left.look);
    Py_XDECREF(self->last);
    Py_XDECREF(self->seen);
    PyBuffer_Release(&self->ring_view);
    PyBuffer_Release(&self->page_view);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static PyObject *lane_write_deferred(LaneBase *self, PyObject *unused) {
    write_left(self);
    Py_RETURN_NONE;
}

static PyObject *lane_has_deferred(LaneBase *self, void *unused) {
    return PyBool_FromLong(self->left.look != NULL);
}

static PyMethodDef lane_methods[] = {
    {"forget", (PyCFunction)lane_forget, METH_NOARGS, "As if no context had been seen."},
    {"write_deferred", (PyCFunction)lane_write_deferred, METH_NOARGS, "Write down what the last execution has left, if it has."},
    {NULL},
};

static PyGetSetDef lane_properties[] = {
    {"has_deferred", (getter)lane_has_deferred, NULL, NULL, NULL},
    {NULL},
};

static PyMemberDef lane_members[] = {
    {"closed", T_BOOL, offsetof(LaneBase, closed), 0, NULL},
    {"detached", T_BOOL, offsetof(LaneBase, detached), 0, NULL},
    {"is_busy", T_BOOL, offsetof(LaneBase, is_busy), 0, NULL},
    {"owes", T_BOOL, offsetof(LaneBase, owes), 0, NULL},
    {"one_profile", T_BOOL, offsetof(LaneBase, one_profile), READONLY, NULL},
    {"generation", T_UINT, offsetof(LaneBase, generation), 0, NULL},
    {"version", T_LONGLONG, offsetof(LaneBase, version), 0, NULL},
    {"expires_ns", T_LONGLONG, offsetof(LaneBase, expires_ns), 0, NULL},
    {"last_end_ns", T_LONGLONG, offsetof(LaneBase, last_end_ns), 0, NULL},
    {"busy_ns", T_LONGLONG, offsetof(LaneBase, busy_ns), 0, NULL},
    {"seen", T_OBJECT_EX, offsetof(LaneBase, seen), READONLY, NULL},
    {NULL},
};

static PyTypeObject LaneType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "layerwatch.probe._usual.LaneBase",
    .tp_basicsize = sizeof(LaneBase),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .tp_new = PyType_GenericNew,
    .tp_init = (initproc)lane_init,
    .tp_dealloc = (destructor)lane_dealloc,
    .tp_methods = lane_methods,
    .tp_members = lane_members,
    .tp_getset = lane_properties,
};

/* -- Run ----------------------------------------------------------------------------------------------------------- */

static int run_init(Run *self, PyObject *args, PyObject *kwargs) {
    PyObject *lane, *context, *look;
    if (!PyArg_ParseTuple(
            args, "OOO!IIK:Run", &lane, &context, &LookType, &look, &self->since_change, &self->flags,
            &self->request_id))
        return -1;
    if (lane != Py_None && !PyObject_TypeCheck(lane, &LaneType)) {
        PyErr_SetString(PyExc_TypeError, "lane is a LaneBase, or None");
        return -1;
    }
    if (lane != Py_None) {
        Py_INCREF(lane);
        Py_XSETREF(self->lane, (LaneBase *)lane);
    }
    Py_INCREF(context);
    Py_XSETREF(self->context, context);
    Py_INCREF(look);
    Py_XSETREF(self->look, (Look *)look);
    return 0;
}

static void run_let_go(Run *self) {
    Py_CLEAR(self->lane);
    Py_CLEAR(self->context); /* its owner may want it destroyed */
}

static void run_dealloc(Run *self) {
    run_let_go(self);
    Py_CLEAR(self->look);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

/* An order that has expired is looked at anew by the next execution. */
static inline void mind_expiry(LaneBase *lane, int64_t now) {
    if (lane->expires_ns != 0 && now >= lane->expires_ns)
        lane->version = -2;
}

static PyObject *run_launched(Run *self, PyObject *unused) {
    LaneBase *lane = self->lane;
    self->launched_ns = now_ns(CLOCK_MONOTONIC);
    if (lane != NULL) {
        write_left(lane);
        lane->is_busy = self->start_ns - lane->last_end_ns < lane->busy_ns;
    }
    Py_RETURN_NONE;
}

static PyObject *run_enter(PyObject *self, PyObject *unused) {
    Py_INCREF(self);
    ((Run *)self)->start_ns = now_ns(CLOCK_MONOTONIC);
    return self;
}

static PyObject *run_exit(Run *self, PyObject *const *args, Py_ssize_t count) {
    LaneBase *lane = self->lane;
    self->end_ns = now_ns(CLOCK_MONOTONIC);
    if (lane == NULL)
        Py_RETURN_NONE;
    if (RARE(count > 0 && args[0] != Py_None)) {
        contain(lane, PyObject_CallMethodObjArgs((PyObject *)lane, s_end, self, Py_True, NULL));
    } else {
        write_left(lane);
        lane->left = (Left){
            .look = self->look,
            .start_ns = self->start_ns,
            .launched_ns = self->launched_ns,
            .end_ns = self->end_ns,
            .request_id = self->request_id,
            .since_change = self->since_change,
            .flags = (uint16_t)self->flags,
        };
        Py_INCREF(self->look);
        lane->last_end_ns = self->end_ns;
        mind_expiry(lane, self->end_ns);
        if (!lane->is_busy || !self->launched_ns || lane->closed)
            write_left(lane);
    }
    run_let_go(self);
    Py_RETURN_NONE;
}

static PyObject *run_get_lane(Run *self, void *unused) {
    PyObject *lane = self->lane == NULL ? Py_None : (PyObject *)self->lane;
    Py_INCREF(lane);
    return lane;
}

static int run_set_lane(Run *self, PyObject *lane, void *unused) {
    if (lane == NULL || (lane != Py_None && !PyObject_TypeCheck(lane, &LaneType))) {
        PyErr_SetString(PyExc_TypeError, "lane is a LaneBase, or None");
        return -1;
    }
    if (lane == Py_None)
        lane = NULL;
    Py_XINCREF(lane);
    Py_XSETREF(self->lane, (LaneBase *)lane);
    return 0;
}

static PyObject *run_get_look(Run *self, void *unused) {
    Py_INCREF(self->look);
    return (PyObject *)self->look;
}

static int run_set_look(Run *self, PyObject *look, void *unused) {
    return replace_look(&self->look, look);
}

static PyMethodDef run_methods[] = {
    {"launched", (PyCFunction)run_launched, METH_NOARGS,
     "Say that the work is enqueued, and that from here on the host only waits. Optional."},
    {"__enter__", run_enter, METH_NOARGS, NULL},
    {"__exit__", (PyCFunction)(void (*)(void))run_exit, METH_FASTCALL, NULL},
    {NULL},
};

static PyGetSetDef run_properties[] = {
    {"lane", (getter)run_get_lane, (setter)run_set_lane, NULL, NULL},
    {"look", (getter)run_get_look, (setter)run_set_look, NULL, NULL},
    {NULL},
};

static PyMemberDef run_members[] = {
    {"context", T_OBJECT, offsetof(Run, context), 0, NULL},
    {"start_ns", T_LONGLONG, offsetof(Run, start_ns), 0, NULL},
    {"launched_ns", T_LONGLONG, offsetof(Run, launched_ns), 0, NULL},
    {"end_ns", T_LONGLONG, offsetof(Run, end_ns), 0, NULL},
    {"request_id", T_ULONGLONG, offsetof(Run, request_id), READONLY, NULL},
    {"since_change", T_UINT, offsetof(Run, since_change), 0, NULL},
    {"flags", T_UINT, offsetof(Run, flags), 0, NULL},
    {NULL},
};

static PyTypeObject RunType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "layerwatch.probe._usual.Run",
    .tp_basicsize = sizeof(Run),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .tp_new = PyType_GenericNew,
    .tp_init = (initproc)run_init,
    .tp_dealloc = (destructor)run_dealloc,
    .tp_methods = run_methods,
    .tp_members = run_members,
    .tp_getset = run_properties,
};

/* -- ProbeBase ----------------------------------------------------------------------------------------------------- */

static PyObject *probe_new(PyTypeObject *type, PyObject *args, PyObject *kwargs) {
    ProbeBase *self = (ProbeBase *)type->tp_alloc(type, 0);
    if (self != NULL)
        self->serial = ++probes_made;
    return (PyObject *)self;
}

static void probe_dealloc(ProbeBase *self) {
    Py_XDECREF(self->local);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

static LaneBase *lane_here(ProbeBase *self) {
    PyObject *lane;
    if (here.serial == self->serial)
        return here.lane;
    if (self->local == NULL)
        return NULL;
    lane = PyObject_GetAttr(self->local, s_lane);
    if (lane == NULL) {
        PyErr_Clear();
        return NULL;
    }
    Py_DECREF(lane); /* the probe keeps it */
    if (!PyObject_TypeCheck(lane, &LaneType))
        return NULL;
    here.serial = self->serial;
    here.lane = (LaneBase *)lane;
    return here.lane;
}

static Seen *seen_here(LaneBase *lane, PyObject *context) {
    PyObject *key, *seen;
    if (lane->context == context)
        return lane->last;
    key = PyLong_FromVoidPtr(context);
    seen = key == NULL ? NULL : PyDict_GetItemWithError(lane->seen, key);
    Py_XDECREF(key);
    if (seen == NULL || !Py_IS_TYPE(seen, &SeenType))
        return NULL;
    lane->context = context;
    Py_INCREF(seen);
    Py_XSETREF(lane->last, (Seen *)seen);
    return lane->last;
}

/* The very same objects in the same order: equal, found without a look at any of them. */
static int identical(PyObject *shapes, PyObject *known) {
    Py_ssize_t i = 0, j = 0;
    PyObject *name, *dims, *known_name, *known_dims;
    if (PyDict_GET_SIZE(shapes) != PyDict_GET_SIZE(known))
        return 0;
    while (PyDict_Next(shapes, &i, &name, &dims))
        if (!PyDict_Next(known, &j, &known_name, &known_dims) || name != known_name || dims != known_dims)
            return 0;
    return 1;
}

/* Borrowed; NULL where they are new (no error), or cannot be compared (an error). */
static Look *look_at(Seen *seen, Look *before, PyObject *shapes) {
    PyObject *items, *key, *look, *known = before->shapes;
    int same = known == Py_None ? 0 : identical(shapes, known) ? 1 : PyObject_RichCompareBool(shapes, known, Py_EQ);
    if (same != 0)
        return same > 0 ? before : NULL;
    items = PyDict_Items(shapes);
    key = items == NULL ? NULL : PyList_AsTuple(items);
    Py_XDECREF(items);
    look = key == NULL ? NULL : PyDict_GetItemWithError(seen->others, key);
    Py_XDECREF(key);
    if (look == NULL) {
        if (PyErr_Occurred() && PyErr_ExceptionMatches(PyExc_TypeError))
            PyErr_Clear(); /* lists */
        return NULL;
    }
    return (Look *)look;
}

/* 1: the context is in the profile that both looks are of. */
static int same_profile(LaneBase *lane, PyObject *context, Look *now, Look *before) {
    PyObject *profile;
    long number;
    if (lane->one_profile)
        return 1;
    if (now->profile != before->profile)
        return 0;
    profile = PyObject_GetAttr(context, s_profile);
    if (profile == NULL)
        return -1;
    number = PyLong_AsLong(profile);
    Py_DECREF(profile);
    if (number == -1 && PyErr_Occurred())
        return -1;
    return number == now->profile;
}

/* New; NULL where this is no usual execution. An error says that something of ours, or of the caller's, is wrong. */
static PyObject *usual(LaneBase *lane, PyObject *context, PyObject *shapes, unsigned int flags, PyObject *request_id) {
    Seen *seen = seen_here(lane, context);
    Look *before, *look;
    Run *run = NULL;
    unsigned long long number = 0;
    if (seen == NULL)
        return NULL;
    Py_INCREF(seen); /* comparing shapes may run the caller's code */
    before = seen->look;
    Py_INCREF(before);
    look = look_at(seen, before, shapes);
    Py_XINCREF(look);
    if (RARE(look == NULL) || look->stratum->free <= 0 || look->stratum->version != lane->version ||
        same_profile(lane, context, look, before) <= 0)
        goto done;
    if (request_id != NULL) {
        number = PyLong_AsUnsignedLongLong(request_id);
        if (number == (unsigned long long)-1 && PyErr_Occurred()) {
            PyErr_Clear();
            goto done;
        }
    }
    run = PyObject_New(Run, &RunType);
    if (run == NULL)
        goto done;
    Py_INCREF(look);
    if (look == before) {
        seen->since_change++;
    } else {
        seen->since_change = 0;
        Py_INCREF(look);
        Py_SETREF(seen->look, look);
    }
    look->stratum->free--;
    look->stratum->passed++;
    lane->near[0] = look;
    lane->near[1] = look->stratum;
    Py_INCREF(lane);
    run->lane = lane;
    Py_INCREF(context);
    run->context = context;
    run->look = look;
    run->start_ns = run->launched_ns = run->end_ns = 0;
    run->request_id = number;
    run->since_change = (unsigned int)seen->since_change;
    run->flags = flags;
done:
    Py_XDECREF(look);
    Py_DECREF(before);
    Py_DECREF(seen);
    return (PyObject *)run;
}

static PyObject *probe_execution(ProbeBase *self, PyObject *const *args, Py_ssize_t count, PyObject *names) {
    PyObject *shapes = count > 2 ? args[2] : NULL, *request_id = NULL, *run, *full;
    Py_ssize_t named = names == NULL ? 0 : PyTuple_GET_SIZE(names);
    unsigned int flags = 0;
    int plain = count == 2 || count == 3;
    LaneBase *lane;
    for (Py_ssize_t i = 0; plain && i < named; i++) {
        PyObject *name = PyTuple_GET_ITEM(names, i), *value = args[count + i];
        if (name == s_graph && (value == Py_True || value == Py_False))
            flags = value == Py_True ? IN_GRAPH : 0;
        else if (name == s_request_id && PyLong_CheckExact(value))
            request_id = value;
        else if (name == s_shapes && shapes == NULL)
            shapes = value;
        else
            plain = 0;
    }
    if (plain && shapes != NULL && PyDict_CheckExact(shapes)) {
        lane = lane_here(self);
        if (lane == NULL)
            goto full;
        __builtin_prefetch(lane->ordered);
        __builtin_prefetch(lane->last);
        __builtin_prefetch(lane->near[0]);
        __builtin_prefetch(lane->near[1]);
        if (!lane->closed && !lane->owes && *lane->ordered == lane->generation) {
            run = usual(lane, args[0], shapes, flags, request_id);
            if (run != NULL)
                return run;
            if (PyErr_Occurred())
                contain(lane, NULL);
        }
    }
full:
    full = PyObject_GetAttr((PyObject *)self, s_full);
    if (full == NULL)
        return NULL;
    run = PyObject_Vectorcall(full, args, (size_t)count, names);
    Py_DECREF(full);
    return run;
}

PyDoc_STRVAR(
    execution_doc,
    "execution($self, context, stream, shapes=None, *, graph=False, request_id=0)\n--\n\n"
    "A `with` block around one execution: enqueue on `run.context`, and wait in it unless `waits` is off.\n\n"
    "`shapes` are those of the inputs by name; without them the context is asked, which costs some microseconds.\n"
    "`graph` says that a captured graph is launched unless `run.sampled`. Capture graphs outside of such a block.");

static PyMethodDef probe_methods[] = {
    {"execution", (PyCFunction)(void (*)(void))probe_execution, METH_FASTCALL | METH_KEYWORDS, execution_doc},
    {NULL},
};

static PyMemberDef probe_members[] = {
    {"_local", T_OBJECT_EX, offsetof(ProbeBase, local), 0, NULL},
    {NULL},
};

static PyTypeObject ProbeType = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "layerwatch.probe._usual.ProbeBase",
    .tp_basicsize = sizeof(ProbeBase),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .tp_new = probe_new,
    .tp_dealloc = (destructor)probe_dealloc,
    .tp_methods = probe_methods,
    .tp_members = probe_members,
};

/* -- the module ---------------------------------------------------------------------------------------------------- */

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_usual",
    .m_doc = "The usual execution, compiled. See usual.py.",
    .m_size = -1,
};

PyMODINIT_FUNC PyInit__usual(void) {
    struct {
        const char *name;
        PyTypeObject *type;
    } types[] = {{"Stratum", &StratumType}, {"Look", &LookType}, {"Seen", &SeenType},
                 {"LaneBase", &LaneType},   {"Run", &RunType},   {"ProbeBase", &ProbeType}};
    struct {
        const char *text;
        PyObject **kept;
    } names[] = {{"lane", &s_lane},
                 {"_full_execution", &s_full},
                 {"end", &s_end},
                 {"fail", &s_fail},
                 {"active_optimization_profile", &s_profile},
                 {"graph", &s_graph},
                 {"request_id", &s_request_id},
                 {"shapes", &s_shapes}};
    PyObject *made = PyModule_Create(&module);
    if (made == NULL)
        return NULL;
    fill_crc_table();
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if ((*names[i].kept = PyUnicode_InternFromString(names[i].text)) == NULL)
            goto failed;
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        if (PyType_Ready(types[i].type) < 0)
            goto failed;
        Py_INCREF(types[i].type);
        if (PyModule_AddObject(made, types[i].name, (PyObject *)types[i].type) < 0) {
            Py_DECREF(types[i].type);
            goto failed;
        }
    }
    /* `sampled` and `twin` are what only a full execution can have */
    if (PyDict_SetItemString(RunType.tp_dict, "sampled", Py_False) < 0 ||
        PyDict_SetItemString(RunType.tp_dict, "twin", Py_None) < 0)
        goto failed;
    PyType_Modified(&RunType);
    if (PyModule_AddIntMacro(made, HEADER_BYTES) < 0 || PyModule_AddIntMacro(made, RECORD_BYTES) < 0 ||
        PyModule_AddIntMacro(made, WRITTEN_OFFSET) < 0 || PyModule_AddIntMacro(made, SHAPE_BYTES) < 0 ||
        PyModule_AddIntMacro(made, ORDERED_OFFSET) < 0 || PyModule_AddIntMacro(made, IN_GRAPH) < 0)
        goto failed;
    return made;
failed:
    Py_DECREF(made);
    return NULL;
}
