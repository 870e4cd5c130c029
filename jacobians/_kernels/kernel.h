/* The arithmetic of the kernel: compiled by kernel.c for every kind of PROCESSOR and, by including
 * itself, for both DTYPEs.  NAME(x) is x with a suffix of its own; other macros are in kernel.c.
 * Every output is summed by itself, one term after the other in the order of the inner index, with
 * the same instruction, whatever stands beside it: its bits depend on neither the other points nor
 * the rows of a tile.
 */

#ifndef DTYPE

#define DTYPE double
#define DOUBLE 1
#include "kernel.h"
#define DTYPE float
#define DOUBLE 0
#include "kernel.h"
#undef PROCESSOR
#undef TARGET

#else

typedef DTYPE V __attribute__((vector_size(BYTES)));
typedef __typeof__((V){0} > (V){0}) MASK; /* integers of that size */

/* Where fewer than LANES numbers are left of a row, no others are touched. */
INLINE V NAME(get)(const DTYPE *p, size_t left) {
    V v = {0};
    if (left >= LANES) memcpy(&v, p, BYTES);
    else memcpy(&v, p, left * sizeof(DTYPE));
    return v;
}
INLINE void NAME(put)(DTYPE *p, V v, size_t left) {
    if (left >= LANES) memcpy(p, &v, BYTES);
    else memcpy(p, &v, left * sizeof(DTYPE));
}
INLINE V NAME(load)(const DTYPE *p) { return NAME(get)(p, LANES); }
INLINE void NAME(store)(DTYPE *p, V v) { NAME(put)(p, v, LANES); }

INLINE V SELECT(MASK m, V yes, V no) { return (V)((m & (MASK)yes) | (~m & (MASK)no)); }
INLINE V NAME(above)(V x, V y) { return SELECT(x > y, x, y); }
INLINE V NAME(below)(V x, V y) { return SELECT(x < y, x, y); }
INLINE V NAME(size)(V x) { return (V)((MASK)x & ~(MASK)VALUE(-0.0)); }

/* Row r of point i, if there is one. */
INLINE DTYPE *NAME(at)(view v, size_t i, size_t r) {
    return v.p ? (DTYPE *)v.p + i * v.point + r * v.row : NULL;
}

/* --- products -------------------------------------------------------------------------------- */

/* A tile of the result in registers: up to 6 rows of a, times vectors of columns of b.
 *
 *     out[r, c] = (add[r, c] + sum over the live k of a[r, k] b[k, c]) scale[r, c] (+ out[r, c])
 */
typedef struct {
    const DTYPE *a, *b, *add, *scale;
    DTYPE *out;
    size_t a_row, a_k, b_k, b_panel, out_row, add_row[6], scale_row[6]; /* where row r begins */
    const uint32_t *live; /* the k that are not left out */
    size_t count, added, last; /* last: how many columns there are of the last vector */
} NAME(tile);

INLINE void NAME(fill)(const NAME(tile) *t, const size_t rows, const size_t vectors) {
    V sum[6][8], right[8];
    EVERY(r, rows) EVERY(v, vectors)
        sum[r][v] = t->add ? NAME(load)(t->add + t->add_row[r] + v * LANES) : VALUE(0);
    const DTYPE *a = t->a, *b = t->b;
    const size_t a_row = t->a_row, a_k = t->a_k, b_k = t->b_k, b_panel = t->b_panel;
    for (const uint32_t *live = t->live, *end = live + t->count; live < end; live++) {
        const DTYPE *row = a + *live * a_k, *column = b + *live * b_k;
        EVERY(v, vectors) right[v] = COLUMNS(v);
        EVERY(r, rows) {
            V left = VALUE(row[r * a_row]);
            EVERY(v, vectors) sum[r][v] += left * right[v];
        }
    }
    EVERY(r, rows) {
        DTYPE *out = t->out + r * t->out_row;
        if (t->scale) EVERY(v, vectors) sum[r][v] *= NAME(load)(t->scale + t->scale_row[r] + v * LANES);
        EVERY(v, vectors) {
            const size_t left = v + 1 < vectors ? LANES : t->last;
            if (t->added) sum[r][v] += NAME(get)(out + v * LANES, left);
            NAME(put)(out + v * LANES, sum[r][v], left);
        }
    }
}

/* Tiles beside each other, at most so many vectors wide, for the columns from one to another. */
STATIC void NAME(fill_columns)(NAME(tile) *t, size_t rows, size_t vectors, size_t c, size_t to, size_t end) {
    const DTYPE *b = t->b, *add = t->add, *scale = t->scale;
    DTYPE *out = t->out;
    for (; c < to; c += vectors * LANES) {
        while ((vectors - 1) * LANES >= to - c) vectors /= 2;
        t->b = b + c / (PANEL * LANES) * t->b_panel + c % (PANEL * LANES), t->out = out + c;
        t->add = add ? add + c : NULL, t->scale = scale ? scale + c : NULL;
        t->last = end - c - (vectors - 1) * LANES; /* end: of what is stored, with the padding */
        switch (16 * rows + vectors) {
            TILE(1, 8) TILE(1, 4) TILE(2, 4) TILE(3, 4) TILE(4, 4) TILE(5, 4) TILE(6, 4)
            TILE(1, 2) TILE(2, 2) TILE(3, 2) TILE(4, 2) TILE(5, 2) TILE(6, 2)
            TILE(1, 1) TILE(2, 1) TILE(3, 1) TILE(4, 1) TILE(5, 1) TILE(6, 1)
        }
    }
}

/* Write which numbers are not 0, after how many they are. */
INLINE void NAME(find_live)(const DTYPE *d, size_t n, uint32_t *live) {
    uint32_t count = 0;
    for (size_t k = 0; k < n; k++) {
        live[1 + count] = (uint32_t)k;
        count += d[k] != 0;
    }
    *live = count;
}

/* out_i = (add_i + a_i b_i) diag(scale_i) for every point i; a is (m, k), b is (k, n), packed or not.
 * OVER_POINTS, the sum of a_i^T b_i over all points is added to out.
 * A tile has a few rows of one point or, where these are few and b is the same, of several.  They
 * stay in the first cache while columns of b go by, a strip of which stays in the second one while
 * all rows go by, or rows that all points share while all points do.
 */
OPERATION(product) {
    view out = v[0], a = v[1], b = v[2], live = v[3], scale = v[4], add = v[5];
    const size_t m = s->m, over = s->flags & OVER_POINTS, k = over ? points : s->k, n = s->n;
    NAME(tile) t = {.a_k = 1, .a_row = m == 1 ? a.point : a.row, .added = over,
                    .b_k = s->packed ? PANEL * LANES : over ? b.point : b.row,
                    .b_panel = PANEL * LANES * (s->packed ? k : 1),
                    .out_row = m == 1 ? out.point : out.row};
    if (over) /* rows of all points are rows of one matrix, and they are the inner index */
        t.a_k = a.point, t.a_row = a.row = 1, a.point = b.point = 0, points = 1;
    const size_t alike = !b.point && (m == 1 || (m <= 3 && !live.p && a.point == m * a.row));
    const size_t tiles = (m + 5) / 6, high = (m + tiles - 1) / tiles; /* rows, of them in a tile */
    const size_t sets = alike ? (points + 6 / m - 1) / (6 / m) : points, each = (points + sets - 1) / sets;
    if (each > 1) live.p = NULL;
    else if (!live.p && m == 1 && !over) live = a; /* the numbers of a itself */
    for (size_t i = 0; live.p && i < points; i++)
        NAME(find_live)(NAME(at)(live, i, 0), k, lists + i * (k + 1));
    for (size_t r = 0; r < 6; r++) { /* of further points, where there are no further rows */
        t.add_row[r] = alike ? r / m * add.point + r % m * add.row : r * add.row;
        t.scale_row[r] = alike ? r / m * scale.point + r % m * scale.row : r * scale.row;
    }
    const size_t wide = 8 * LANES, fit = STRIP_BYTES / sizeof(DTYPE) / k / wide * wide;
    const size_t strip = fit > wide ? fit : wide, vectors = MOST(each * high);
    const size_t outer = a.point ? sets : tiles, inner = a.point ? tiles : sets;
    for (size_t from = 0; from < n; from += strip)
        for (size_t p = 0; p < outer; p++)
            for (size_t q = 0; q < inner; q++) {
                const size_t i = (a.point ? p : q) * each, r = (a.point ? q : p) * high;
                const uint32_t *own = lists + i * (k + 1);
                t.live = live.p ? own + 1 : all, t.count = live.p ? *own : k;
                t.a = NAME(at)(a, i, r), t.b = NAME(at)(b, i, 0), t.out = NAME(at)(out, i, r);
                t.add = NAME(at)(add, i, r), t.scale = NAME(at)(scale, i, r);
                NAME(fill_columns)(&t, LEAST(each, points - i) * LEAST(high, m - r), vectors, from,
                                   LEAST(n, from + strip), s->columns);
            }
    return 1;
}

/* out_i = a_iᵀ diag(w) a_i for every row w of b_i, one below the other; or that is ADDED to out_i.
 * What is below the diagonal is computed, and copied above it. */
OPERATION(congruence) {
    const view out = v[0], a = v[1], b = v[2];
    const size_t n = s->n, k = s->k, row = (n + LANES - 1) / LANES * LANES;
    DTYPE *weighted = (DTYPE *)v[3].p;
    for (size_t q = 0; q < points * s->m; q++) {
        const DTYPE *P = NAME(at)(a, q / s->m, 0), *w = NAME(at)(b, q / s->m, q % s->m);
        DTYPE *to = NAME(at)(out, q / s->m, q % s->m * n);
        for (size_t i = 0; i < k; i++) /* what follows a row is read along, and comes to nothing */
            for (size_t c = 0; c < row; c += LANES)
                NAME(store)(weighted + i * row + c, w[i] * NAME(load)(P + i * a.row + c));
        for (size_t r = 0, end; r < n; r = end) {
            end = LEAST(r + 6, n);
            NAME(tile) t = {.a = P + r, .a_row = 1, .a_k = a.row, .b = weighted, .b_k = row,
                            .b_panel = PANEL * LANES, .out = to + r * out.row, .out_row = out.row,
                            .live = all, .count = k, .added = s->flags & ADDED};
            NAME(fill_columns)(&t, end - r, MOST(end - r), 0, end, n);
        }
        for (size_t r = 0; r < n; r++)
            for (size_t c = 0; c < r; c++) to[c * out.row + r] = to[r * out.row + c];
    }
    return 1;
}

/* out_i = add_i + a_i diag(scale_i), or add_i + diag(scale_i) a_i by rows; without scale, a copy. */
OPERATION(scaling) {
    const view out = v[0], a = v[1], scale = v[4], add = v[5];
    const size_t n = s->n, padded = a.row > n ? a.row : n; /* which may be read along */
    for (size_t i = 0; i < points; i++)
        for (size_t r = 0; r < s->m; r++) {
            const DTYPE *from = NAME(at)(a, i, r), *d = NAME(at)(scale, i, r), *plus = NAME(at)(add, i, r);
            for (size_t c = 0; c < n; c += LANES) {
                V x = NAME(get)(from + c, padded - c);
                if (d) x *= s->flags & BY_ROWS ? VALUE(*d) : NAME(get)(d + c, n - c);
                if (plus) x += NAME(get)(plus + c, n - c);
                NAME(put)(NAME(at)(out, i, r) + c, x, s->columns - c);
            }
        }
    return 1;
}

/* --- exponentials ---------------------------------------------------------------------------- */

/* e^x = 2^k (1 + q), q = e^r - 1 by its series, |r| <= log(2) / 2; 2^k in two factors, so that what
 * is multiplied by the second one, always the same, is rounded once where it is subnormal.  x is at
 * most 40, and may have a small rest, as an error of x turns into a relative error of e^x.
 */
typedef struct { V q, first, second; } NAME(power);

INLINE V NAME(nearest)(V x) { return (x + MAGIC) - MAGIC; }

/* k is an integer, in the last bits of k + MAGIC. */
INLINE V NAME(two_to)(V k) { return (V)(((MASK)(k + MAGIC) << MANTISSA) + (MASK)VALUE(1)); }

INLINE NAME(power) NAME(exp)(V x, V rest) {
    V k = NAME(nearest)((x + rest) * (DTYPE)1.4426950408889634);
    V r = ((x - k * (DTYPE)LOG2_HEAD) - k * (DTYPE)LOG2_REST) + rest, u = r * r;
    V even = VALUE(1 / FACTORIAL[TERMS]), odd = VALUE(1 / FACTORIAL[TERMS - 1]);
    EVERY(i, TERMS / 2 - 1) even = even * u + (DTYPE)(1 / FACTORIAL[TERMS - 2 - 2 * i]);
    EVERY(i, TERMS / 2 - 2) odd = odd * u + (DTYPE)(1 / FACTORIAL[TERMS - 3 - 2 * i]);
    return (NAME(power)){r + u * (even + r * odd), NAME(two_to)(k + SHIFT), NAME(two_to)(VALUE(-SHIFT))};
}

INLINE V NAME(near)(NAME(power) e) { return e.first + e.first * e.q; } /* without the second one */
INLINE V NAME(whole)(NAME(power) e) { return NAME(near)(e) * e.second; }
INLINE V NAME(minus_1)(NAME(power) e) { /* e^x - 1, to the last place also where x is small */
    V scale = e.first * e.second;
    return scale * e.q + (scale - 1);
}

INLINE V NAME(log1p)(V e) { /* of 0 to 1: 2 artanh(t), after a division by 2 where e > sqrt(2) - 1 */
    MASK large = (MASK)(e > (DTYPE)0.41421356);
    V t = SELECT(large, (e - 1) / (3 + e), e / (2 + e)), u = t * t;
    V p = VALUE(1.0 / (2 * LOG_TERMS + 1));
    EVERY(i, LOG_TERMS - 1) p = p * u + (DTYPE)(1.0 / (2 * (LOG_TERMS - i) - 1));
    return SELECT(large, VALUE(0.6931471805599453), VALUE(0)) + (2 * t + 2 * t * u * p);
}

/* --- activations: a = sigma(z) and s = sigma'(z), from one exponential; see _sigma.py -------- */

#if DOUBLE
INLINE V NAME(head)(V x) { return NAME(nearest)(64 * x) / 64; } /* x with few bits */

INLINE NAME(power) NAME(exp_square)(const DTYPE k, V x) { /* e^(k x²) */
    V head = NAME(head)(x);
    return NAME(exp)(k * head * head, k * (x - head) * (x + head));
}

/* Those that are evaluated in double and rounded once; the formulas are in _gated.py. */
INLINE void NAME(gated)(const int code, V z, const double *p, V *a, V *s) {
    V x = NAME(above)(-NAME(size)(z), VALUE(-800)), left, e, far, y, d, head;
    NAME(power) E;
    double t;
    switch (code) {
    EACH(SIN, sin(t), cos(t)) EACH(COS, cos(t), -sin(t)) EACH(ABS, fabs(t), t > 0 ? 1 : -1)
    EACH(SQRT, sqrt(t), 0.5 / sqrt(t)) EACH(LOG, log(t), 1 / t) EACH(RECIPROCAL, 1 / t, -1 / t / t)
    EACH(POWER, pow(t, p[0]), p[0] == 0 ? 0 : p[0] * pow(t, p[0] - 1))
    EACH(SIGN, (t > 0) - (t < 0), 0) EACH(FLOOR, floor(t), 0)
    case CELU: { /* exp of the quotient z / w, taken at a head with few bits, and the rest */
        const double w = p[0], high = (float)w;
        x = NAME(below)(NAME(above)(z, VALUE(-800 * w)), VALUE(0)), head = NAME(head)(x / w);
        E = NAME(exp)(head, ((x - head * high) - head * (w - high)) / w);
        *a = SELECT(z > 0, z, w * NAME(minus_1)(E));
        *s = SELECT(z > 0, VALUE(1), NAME(whole)(E)); return;
    }
    case GAUSSIAN:
    case ERF: /* e^-784 is 0 */
        x = NAME(below)(NAME(above)(z, VALUE(-28)), VALUE(28));
        E = NAME(exp_square)(-1, x), *a = NAME(whole)(E);
        *s = (code == ERF ? VALUE(1.1283791670955126) : -2 * x) * NAME(near)(E) * E.second;
        if (code == ERF) EVERY(i, LANES) (*a)[i] = erf(z[i]);
        return;
    case SILU:
    case GELU_TANH: { /* z sigmoid(v), v = c z + k z³ */
        const cubic q = CUBICS[code == GELU_TANH];
        const double c = q.c + q.c_rest, k = q.k + q.k_rest;
        x = NAME(above)(x, VALUE(q.least)), head = NAME(head)(x);
        V rest = (x - head) * (c + k * (x * x + x * head + head * head));
        rest += head * (q.c_rest + q.k_rest * (head * head));
        E = NAME(exp)(head * (q.c + q.k * (head * head)), rest);
        e = NAME(near)(E), far = E.second, y = 1 / (1 + e * far);
        *a = NAME(above)(z, VALUE(0)) + x * e * y * far;
        d = (x - q.r) - q.r_rest; /* 1 + z v' + e^v from its root r */
        V cubes = x * x + x * q.r + q.r * q.r;
        left = q.power * NAME(minus_1)(NAME(exp)(d * (c + k * cubes), EXACT));
        left = e * (left + d * (c + 3 * k * cubes)) * y * y * far; break;
    }
    case GELU: { /* Phi(x) = L(x) - x T(x) exp(-x²/2), by the midpoint rule */
        x = NAME(above)(x, VALUE(-40));
        V square = x * x, sum = VALUE(0), series = VALUE(GELU_SERIES[GELU_TERMS - 1]);
        EVERY(i, 13) { /* constants, from the smallest */
            const double u = (12.5 - i) * MIDPOINT_STEP;
            sum += MIDPOINT_STEP / 3.141592653589793 * exp(-u * u / 2) / (square + u * u);
        }
        e = NAME(whole)(NAME(exp)(x * MIDPOINT_POLE, EXACT));
        V pole = SELECT(x > -MIDPOINT_POLE, e / (1 + e), VALUE(0));
        E = NAME(exp_square)(-0.5, x);
        *a = NAME(above)(z, VALUE(0)) + (x * pole - square * sum * NAME(near)(E) * E.second);
        d = (x - -0.7517915246935645) - 1.4956759177009883e-17;
        for (int i = GELU_TERMS - 2; i >= 0; i--) series = series * d + GELU_SERIES[i];
        MASK close = (MASK)(NAME(size)(d) < 0.3);
        left = SELECT(close, series * d, x * (0.3989422804014327 - sum));
        left = left * NAME(near)(E) * E.second + SELECT(close, VALUE(0), pole); break;
    }
    default: { /* MISH: with D = E² + 2 E + 2, above zero divided by E² */
        const double R = 0.3034825352815289; /* e^r at the root of the slope */
        E = NAME(exp)(x, EXACT), e = NAME(near)(E), far = E.second;
        V f = e * far, q = f * (1 + f), D = SELECT(z > 0, 1 + 2 * q, 2 + f * (2 + f));
        V least = (x * e - x * e * (q / D)) * far, most = z + x * (2 * f * f / D);
        *a = SELECT(z > 0, most, least);
        d = (x - -1.1924312145154952) - -4.8484829848031044e-17;
        left = (6 + 4 * x) + 4 * (f + R) + (f * f + f * R + R * R);
        left = d * (4 + 4 * R) + R * NAME(minus_1)(NAME(exp)(d, EXACT)) * left;
        V up = 1 + f * (4 + f * (6 + 4 * f) - 4 * x * q);
        *s = SELECT(z > 0, up / (D * D), e * left / (D * D) * far); return;
    }
    }
    *s = SELECT(z > 0, 1 - left, left); /* sigma'(z) + sigma'(-z) = 1 */
}
#else
INLINE void NAME(gated)(const int code, V z, const double *p, V *a, V *s) {
    for (size_t from = 0; from < LANES; from += LANES / 2) { /* in double, half a vector at a time */
        WIDER(vector) x = {0}, value, slope;
        EVERY(i, LANES / 2) x[i] = z[from + i];
        WIDER(gated)(code, x, p, &value, &slope);
        EVERY(i, LANES / 2) (*a)[from + i] = (DTYPE)value[i], (*s)[from + i] = (DTYPE)slope[i];
    }
}
#endif

INLINE void NAME(sigma)(const int code, V z, const double *p, V *a, V *s) {
    const DTYPE p0 = (DTYPE)p[0], p1 = (DTYPE)p[1];
    const V zero = {0};
    NAME(power) E;
    V e, y;
    switch (code) {
    case LEAKY:
        *a = NAME(above)(z, zero) + p0 * NAME(below)(z, zero);
        *s = SELECT(z > 0, VALUE(1), VALUE(p0)); break;
    case CLIP:
    case RAMP: /* (z - low) is exact near low */
        *a = NAME(above)(NAME(below)(z, VALUE(p1)), VALUE(p0));
        if (code == RAMP) *a = (*a - p0) / (p1 - p0);
        *s = SELECT((z > p0) & (z < p1), VALUE(code == RAMP ? 1 / (p1 - p0) : 1), zero); break;
    case ELU: /* p0 z above zero, p1 (e^z - 1) below; with them also selu */
        E = NAME(exp)(NAME(above)(NAME(below)(z, zero), VALUE(LOWEST)), EXACT);
        *a = SELECT(z > 0, p0 * z, p1 * NAME(minus_1)(E));
        *s = SELECT(z > 0, VALUE(p0), p1 * NAME(whole)(E)); break;
    case SIGMOID:
    case SOFTPLUS:
        e = NAME(whole)(NAME(exp)(NAME(above)(-NAME(size)(z), VALUE(LOWEST)), EXACT));
        y = 1 / (1 + e);
        *a = SELECT(z >= 0, y, e * y);
        *s = e * y * y;
        if (code == SOFTPLUS) *s = *a, *a = NAME(above)(z, zero) + NAME(log1p)(e); break;
    case TANH: /* with e = e^-2|z|: (1 - e) / (1 + e), 4 e / (1 + e)² */
        E = NAME(exp)(NAME(above)(-2 * NAME(size)(z), VALUE(LOWEST)), EXACT);
        e = NAME(minus_1)(E), y = 1 / (2 + e);
        *a = (V)((MASK)NAME(size)(e * y) | ((MASK)z & (MASK)VALUE(-0.0))); /* with the sign of z */
        *s = NAME(near)(E) * (y * y) * (4 * E.second); break;
    case SOFTSIGN: y = 1 / (1 + NAME(size)(z)), *a = z / (1 + NAME(size)(z)), *s = y * y; break;
    case EXP: /* above zero 1 / e^-z */
        E = NAME(exp)(NAME(above)(-NAME(size)(z), VALUE(LOWEST)), EXACT), e = NAME(near)(E);
        *a = *s = SELECT(z > 0, 1 / e / E.second, e * E.second); break;
    case SQUARE: *a = z * z, *s = 2 * z; break;
    default: NAME(gated)(code, z, p, a, s);
    }
}

OPERATION(activate) {
    const view out = v[0], z = v[1];
    /* rows of workspace follow one another; where one ends within a vector, 0 takes the place of
     * the padding */
    const size_t count = points * s->m * z.row, whole = z.row == s->n;
    const size_t n = whole ? count : s->n, row = whole ? count : z.row;
    V lane = {0};
    EVERY(i, LANES) lane[i] = (DTYPE)i;
    const MASK keep = (MASK)(lane < (DTYPE)(n % LANES));
    const DTYPE *from = (DTYPE *)z.p;
    DTYPE *to = (DTYPE *)out.p, *slope = (DTYPE *)v[2].p;
    V finite = {0}, defined = {0}; /* or else NaN; of padding, values need not be defined */
    switch (s->flags) {
        EVERY_ACTIVATION(LOOP)
    }
    DTYPE total = 0, values = 0;
    EVERY(i, LANES) total += finite[i], values += defined[i];
    for (size_t i = 0; values != 0 && i < count; i++) total += i % row < n ? to[i] * 0 : 0;
    return total == 0;
}

/* p = softmax(z), or log p, and its Jacobian written out if it is asked for; see _softmax.py.
 * The largest p has the sum of the others in place of 1 - p. */
OPERATION(softmax) {
    const view out = v[0], z = v[1], matrix = v[2];
    const size_t n = s->n;
    const int log = s->flags & LOGARITHM, turned = log && s->flags & TRANSPOSED;
    DTYPE finite = 0;
    for (size_t i = 0; i < points; i++) {
        const DTYPE *from = NAME(at)(z, i, 0);
        DTYPE *p = NAME(at)(out, i, 0), others = 0;
        size_t top = 0;
        for (size_t c = 0; c < n; c++) top = from[c] > from[top] ? c : top, finite += from[c] * 0;
        for (size_t c = 0; c < n; c += LANES) {
            V t = NAME(above)(NAME(load)(from + c) - from[top], VALUE(LOWEST));
            NAME(store)(p + c, NAME(whole)(NAME(exp)(t, EXACT)));
        }
        for (size_t c = 0; c < n; c++) others += c == top ? 0 : p[c];
        for (size_t c = 0; c < out.row; c++) p[c] = c < n ? p[c] / (1 + others) : 0;
        for (size_t r = 0; matrix.p && r < n; r++) { /* p_r (1 or 0 - p_c); log: 1 or 0 - p_c */
            DTYPE *row = NAME(at)(matrix, i, r), own = r == top ? others / (1 + others) : 1 - p[r];
            const DTYPE left = log && !turned ? 1 : p[r];
            for (size_t c = 0; c < n; c += LANES)
                NAME(store)(row + c, -left * (turned ? VALUE(1) : NAME(load)(p + c)));
            row[r] = log ? own : p[r] * own;
        }
        const DTYPE correction = log ? (DTYPE)log1p(others) : 0;
        for (size_t c = 0; log && c < n; c++) p[c] = (from[c] - from[top]) - correction;
    }
    return finite == 0;
}

/* Add rows a, less a shift, and their squares to sums of the group that b_i names, all in double, and
 * take them into the ends; in strips, whose ends stay in the first cache while the rows go by. */
OPERATION(grouping) {
    typedef WIDER(vector) wide;
    typedef DTYPE few __attribute__((vector_size(BYTES / 8 * sizeof(DTYPE)))); /* as many of them */
    const size_t total = s->k, n = s->n, lanes = BYTES / 8;
    const DTYPE *last = NAME(at)(v[1], points, 0);
    double *shift = (double *)v[0].p, *low = shift + total, *high = low + total;
    for (size_t strip = 0; strip < n; strip += STRIP)
        for (size_t i = 0, end; i < points; i = end) {
            const DTYPE group = *NAME(at)(v[2], i, 0);
            if (!(group >= 0 && group < s->m)) return 0;
            for (end = i + 1; end < points && *NAME(at)(v[2], end, 0) == group;) end++;
            double *sums = high + total * (1 + 2 * (size_t)group), *squares = sums + total;
            for (size_t c = strip; c < LEAST(strip + STRIP, n); c += lanes) {
                const size_t left = n - c;
                const wide moved = WIDER(get)(shift + c, left);
                wide least = WIDER(get)(low + c, left), most = WIDER(get)(high + c, left);
                wide sum = WIDER(get)(sums + c, left), square = WIDER(get)(squares + c, left);
                for (size_t k = i; k < end; k++) { /* beyond the last column stands the next row */
                    const DTYPE *from = NAME(at)(v[1], k, 0) + c;
                    few some = {0};
                    if (from + lanes <= last) memcpy(&some, from, sizeof(few));
                    else memcpy(&some, from, (size_t)(last - from) * sizeof(DTYPE));
                    wide x = __builtin_convertvector(some, wide);
                    least = WIDER(below)(x, least), most = WIDER(above)(x, most), x -= moved;
                    sum += x, square += x * x;
                }
                WIDER(put)(low + c, least, left), WIDER(put)(high + c, most, left);
                WIDER(put)(sums + c, sum, left), WIDER(put)(squares + c, square, left);
            }
        }
    return 1;
}

static operation *const NAME(all)[] = {NAME(product), NAME(scaling), NAME(congruence), NAME(activate),
                                       NAME(softmax), NAME(grouping)};

#undef DTYPE
#undef DOUBLE

#endif
