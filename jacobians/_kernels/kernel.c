/* A compiled kernel for the products and activations of a network, as a small interpreter.
 *
 * A program is a list of steps on registers, each of which holds a matrix for every point of a block.
 * Those outside are arrays of the caller, (points, rows, columns), which are read or written; the
 * others are workspace, with rows padded to whole vectors.
 * Constants have padded rows too; on the right of a product they are packed in panels of columns.
 *
 *     PRODUCT       out = (add + a b) diag(scale); where the vector live is 0, columns of a or rows
 *                   of b are, and need not be read.  For a packed table (k, m n), out is m rows;
 *                   OVER_POINTS the sum of a^T b is added to out
 *     SCALING       out = add + a diag(scale), BY_ROWS add + diag(scale) a; without scale, a copy
 *     CONGRUENCE    out = a^T diag(w) a for the rows w of b, one below the other; ADDED, out + that
 *     ACTIVATIONS   out = sigma(a), b = sigma'(a); the flags say which, p are its parameters
 *     SOFTMAX       out = softmax(a), or its logarithm; b = its Jacobian
 *     GROUPING      out += sums of rows a and of their squares by the group b, and their ends
 *     ASK           call back with the first point of this block, and how many there are
 *
 * Shapes and places are checked by the tape from which a program is packed, its only caller.
 */

#define Py_LIMITED_API 0x030b0000
#include <Python.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { PRODUCT, SCALING, CONGRUENCE, ACTIVATIONS, SOFTMAX, GROUPING, ASK };
enum { OVER_POINTS = 1, BY_ROWS = 1, ADDED = 1, LOGARITHM = 1, TRANSPOSED }; /* each of one of them */
enum { READ, WRITTEN, SUMMED }; /* roles of what stands outside */
enum { NONE, OUTSIDE, WORK, CONSTANT, SUM }; /* a sum over points lies in the last array outside */
#define EVERY_ACTIVATION(x) /* in their dtype; in double */                                      \
    x(LEAKY) x(CLIP) x(RAMP) x(ELU) x(SIGMOID) x(TANH) x(SOFTPLUS) x(SOFTSIGN) x(EXP) x(SQUARE)  \
    x(CELU) x(GAUSSIAN) x(ERF) x(SILU) x(GELU) x(GELU_TANH) x(MISH) x(SIN) x(COS) x(ABS) x(SQRT) \
    x(LOG) x(RECIPROCAL) x(POWER) x(SIGN) x(FLOOR)
#define COMMA(x) x,
enum { EVERY_ACTIVATION(COMMA) };
#define STRIP_BYTES 131072 /* columns of b that stay in the second cache while rows go by */
#define PATIENCE 1e8       /* operations between two looks for an interrupt */
#define SHORT 2e4          /* operations for which other threads need not be let in */
#define STRIP 1024         /* columns whose sums over rows are taken together */

typedef struct { char *p; size_t point, row; } view; /* strides in numbers */
typedef struct { int64_t kind, index, point, row; } operand; /* a constant's index is its address */
typedef struct { /* eight bytes each, as they come from Python */
    int64_t op, flags, packed; /* whether b is packed */
    size_t m, k, n, columns;   /* columns: of the result as it is stored */
    double p[2], operations;
    operand operands[6]; /* out, a, b, live, scale, add */
} step;

/* Fill in the result for some points; return whether all that met an activation was finite. */
typedef int operation(const step *, const view *, size_t points, const uint32_t *, uint32_t *);
#define OPERATION(name) /* all: the numbers from 0 on; lists: memory for some of them at each point */ \
    STATIC int NAME(name)(const step *s, const view *v, size_t points, const uint32_t *all, uint32_t *lists)

/* gelu: the step h of the midpoint rule, and the Taylor coefficients of sigma'(z) exp(z²/2) / (z - r)
 * at its zero r; see _gated.py. */
#define MIDPOINT_STEP (11.0 / 16)
#define MIDPOINT_POLE (6.283185307179586 / MIDPOINT_STEP)
#define GELU_TERMS 19
static double GELU_SERIES[GELU_TERMS];
static const double FACTORIAL[] = {1, 1, 2, 6, 24, 120, 720, 5040, 40320, 362880, 3628800, 39916800,
                                   479001600, 6227020800.0, 87178291200.0};

static void fill_table(void) {
    const double r = -0.7517915246935645, root = 2.5066282746310002; /* sqrt(2 pi) */
    double M[GELU_TERMS + 1] = {-r, 1 - r * r}; /* M = Phi / phi, M' = 1 + z M */
    for (int n = 1; n < GELU_TERMS; n++) M[n + 1] = (r * M[n] + M[n - 1]) / (n + 1);
    for (int n = 0; n < GELU_TERMS; n++) GELU_SERIES[n] = ((n == 0) + M[n + 1]) / root;
}

/* z sigmoid(v), v = c z + k z³, c and k in a head and a rest: silu and gelu_tanh above the least z
 * of which they are not 0; the root r of 1 + z v' + e^v, and e^v(r). */
typedef struct { double least, c, c_rest, k, k_rest, r, r_rest, power; } cubic;
static const cubic CUBICS[] = {
    {-800, 1, 0, 0, 0, -1.2784645427610737, -1.0946994183093437e-16, 0.2784645427610738},
    {-22.5, 0x1.9884533d4p+0, (1.5957691216057308 - 0x1.9884533d4p+0) - 9.96930880911092e-17,
     0x1.2444fp-4, (0.07135481627260025 - 0x1.2444fp-4) - 6.175149918155315e-19,
     -0.7524614220710163, 3.635560509207687e-17, 0.29195521191476714}};

/* --- kernel.h for each dtype and processor --------------------------------------------------- */

#define JOINED(x, y, z) x##_##y##_##z
#define EXPANDED(x, y, z) JOINED(x, y, z)
#define NAME(x) EXPANDED(x, DTYPE, PROCESSOR)
#define WIDER(x) EXPANDED(x, double, PROCESSOR)
#define STATIC static TARGET
#define INLINE STATIC inline __attribute__((always_inline))

/* What kernel.h says, of whichever dtype and processor it is compiled for. */
#define V NAME(vector)
#define MASK NAME(mask)
#define BYTES (16 << PROCESSOR)        /* of a vector */
#define PANEL (PROCESSOR == 2 ? 4 : 2) /* vectors beside each other: 4 where there are 32 registers */
#define LANES (BYTES / sizeof(DTYPE))
#define EVERY(v, n) _Pragma("GCC unroll 16") for (size_t v = 0; v < (n); v++)
#define VALUE(x) ((DTYPE)(x) - (V){0}) /* the same number in all lanes */
#define SELECT NAME(select)
#define LEAST(x, y) ((x) < (y) ? (x) : (y))
#define MOST(rows) ((rows) == 1 ? 8 : (rows) < 4 ? 4 : PANEL) /* vectors that registers are there for */
#define COLUMNS(v) NAME(load)(column + (v) / PANEL * b_panel + (v) % PANEL * LANES)
#define TILE(r, v) case 16 * r + v: NAME(fill)(t, r, v); break;
#define EACH(code, value, derivative)                              \
    case code:                                                     \
        EVERY(i, LANES) t = z[i], (*a)[i] = value, (*s)[i] = derivative; \
        return;
#define LOOP(code)                                                  \
    case code:                                                     \
        for (size_t i = 0; i < count; i += row)                     \
            for (size_t c = i; c < i + n; c += LANES) {            \
                V z = NAME(load)(from + c), a, d;                  \
                if (i + n - c < LANES) z = (V)((MASK)z & keep);    \
                NAME(sigma)(code, z, s->p, &a, &d);                \
                finite += z * 0, defined += a * 0;                 \
                NAME(store)(to + c, a), NAME(store)(slope + c, d); \
            }                                                      \
        break;
#define MANTISSA (DOUBLE ? 52 : 23)
#define MAGIC ((DTYPE)(3LL << (MANTISSA - 1))) /* x + MAGIC has no digits after the point */
#define LOWEST (DOUBLE ? -760 : -110)          /* e^x is 0 */
#define LOG2_HEAD (DOUBLE ? 6.93147180369123816490e-01 : 6.9314575195e-01) /* few bits: its product */
#define LOG2_REST (DOUBLE ? 1.90821492927058770002e-10 : 1.4286067653e-06) /* with k is exact */
#define SHIFT (DOUBLE ? 256 : 64)   /* of exponents k, so that 2^(k + shift) is not subnormal */
#define TERMS (DOUBLE ? 14 : 8)     /* of the series of exp up to log(2) / 2 */
#define EXACT VALUE(-0.0)           /* a rest that adds nothing, and no instruction */
#define LOG_TERMS (DOUBLE ? 11 : 5) /* of that of artanh up to 0.172 */

#define PROCESSOR 0
#define TARGET
#include "kernel.h"
#if defined __x86_64__ && !defined BASELINE_ALONE
#define X86(...) __VA_ARGS__
#define PROCESSOR 1
#define TARGET __attribute__((target("avx2,fma")))
#include "kernel.h"
#define PROCESSOR 2
#define TARGET __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,fma")))
#include "kernel.h"
#else
#define X86(...)
#endif

static operation *const *const OPERATIONS[][2] = {
    {all_float_0, all_double_0}, X86({all_float_1, all_double_1}, {all_float_2, all_double_2})};

/* --- programs -------------------------------------------------------------------------------- */

typedef struct { /* eight bytes each, as they come from Python */
    int64_t size, processor, inner, numbers, block, outside, asks, steps;
    double operations; /* at a point */
    const int64_t *each; /* outside: numbers, role */
    const step *step;
} program; /* size: of a number; numbers: workspace of a point; block: points that go together */

/* Let Python in, to answer or to look for an interrupt; return whether to stop. */
static int let_in(PyThreadState **state, PyObject *ask, size_t first, size_t here) {
    if (*state) PyEval_RestoreThread(*state);
    PyObject *answer = ask ? PyObject_CallFunction(ask, "nn", (Py_ssize_t)first, (Py_ssize_t)here) : NULL;
    const int stopped = ask ? !answer : PyErr_CheckSignals() < 0;
    Py_XDECREF(answer);
    if (*state) *state = PyEval_SaveThread();
    return stopped;
}

/* Run over all points, a block after the other; the workspace is one piece of memory. */
static int run_over(const program *p, char *const *outside, size_t points, PyObject *ask) {
    const size_t size = (size_t)p->size, numbers = (size_t)p->numbers, most = (size_t)p->block;
    const size_t block = LEAST(points, most), k = (size_t)p->inner, inner = k && k < block ? block : k;
    const size_t lists = (inner + 1) * (block + 1) * 4 / 64 + 1, lines = numbers * block * size / 64 + 1;
    char *memory = aligned_alloc(64, (lists + lines) * 64);
    if (!memory) return PyErr_NoMemory(), -1;
    uint32_t *all = (uint32_t *)memory, *own = all + inner;
    for (size_t i = 0; i < inner; i++) all[i] = (uint32_t)i;
    PyThreadState *state = p->operations * (double)points > SHORT ? PyEval_SaveThread() : NULL;
    double since = 0;
    int stopped = 0, finite = 1;
    for (size_t first = 0; first < points && !stopped; first += block) {
        const size_t here = LEAST(points - first, block);
        for (const step *s = p->step; s < p->step + p->steps && !stopped; s++) {
            view v[6];
            for (int i = 0; i < 6; i++) {
                const operand *o = &s->operands[i];
                const size_t point = (size_t)o->point, at = (size_t)o->index;
                v[i] = (view){o->kind == OUTSIDE    ? outside[at] + first * point * size
                              : o->kind == WORK     ? memory + (lists * 64 + at * here * size)
                              : o->kind == SUM      ? outside[p->outside - 1] + at * size
                              : o->kind == CONSTANT ? (char *)at : NULL, point, (size_t)o->row};
            }
            if (s->op == ASK) stopped = let_in(&state, ask, first, here);
            else finite &= OPERATIONS[p->processor][size == 8][s->op](s, v, here, all, own);
            since += s->operations * (double)here;
            if (since > PATIENCE && !stopped) stopped = let_in(&state, NULL, 0, 0), since = 0;
        }
    }
    if (state) PyEval_RestoreThread(state);
    free(memory);
    return stopped ? -1 : finite;
}

/* run(program, *outside[, ask]): fill in what is written; return whether all activations were finite.
 * The caller keeps alive what the addresses in a program are of.
 */
static PyObject *run(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t count) {
    const program *p = NULL;
    Py_buffer held[8];
    char *outside[8];
    Py_ssize_t taken = 0, points = 0, good = 0;
    int finite = -1;
    if (count-- > 0 && PyBytes_Size(*args) == sizeof(program)) p = (program *)PyBytes_AsString(*args++);
    for (; p && taken < p->outside && taken < count; taken++) {
        const int64_t bytes = p->each[2 * taken] * p->size, role = p->each[2 * taken + 1];
        Py_buffer *b = &held[taken];
        if (PyObject_GetBuffer(args[taken], b, role ? PyBUF_WRITABLE : PyBUF_SIMPLE) < 0) break;
        if (taken == 0) points = b->len / bytes;
        good += b->len == (role == SUMMED ? bytes : bytes * points) &&
                (uintptr_t)b->buf % (size_t)p->size == 0;
        outside[taken] = b->buf;
    }
    if (p && !PyErr_Occurred() && good == p->outside && count == good + p->asks)
        finite = run_over(p, outside, (size_t)points, p->asks ? args[good] : NULL);
    else if (!PyErr_Occurred()) PyErr_SetString(PyExc_ValueError, "kernel: an array of another size.");
    while (taken--) PyBuffer_Release(&held[taken]);
    return finite < 0 ? NULL : PyBool_FromLong(finite);
}

static int execute(PyObject *module) {
    fill_table();
    int count = 1; /* of the processors above, how many this one is */
    X86(count += __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"));
    X86(count += count == 2 && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
                 __builtin_cpu_supports("avx512vl"));
    return PyModule_AddIntConstant(module, "PROCESSORS", count);
}

static PyMethodDef functions[] = {{"run", (PyCFunction)(void (*)(void))run, METH_FASTCALL, NULL}, {0}};
static PyModuleDef_Slot stages[] = {{Py_mod_exec, execute}, {0, NULL}};
static PyModuleDef definition = {
    .m_base = PyModuleDef_HEAD_INIT, .m_name = "_kernel", .m_methods = functions, .m_slots = stages};
PyMODINIT_FUNC PyInit__kernel(void) { return PyModuleDef_Init(&definition); }
