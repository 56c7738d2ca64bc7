/* The inner loops of scoring, explaining and drift, for those who have a compiler; NumPy does the same without.
 *
 * Compiled without fast-math and without contraction of multiply and add, so that each sum is rounded as NumPy and
 * scikit-learn round it. Arrays are C-contiguous; callers guarantee their sizes.
 */
#include <math.h>
#include <stdint.h>
#include <string.h>

#ifndef SOURCE_HASH
#define SOURCE_HASH 0
#endif

/* Say which source this was compiled from, so that a library left over from another one is not used. */
int64_t source_hash(void)
{
    return SOURCE_HASH;
}

/* A node of a tree: go to `left`, or to the node after it. A leaf is its own left child and sends everything there. */
struct node {
    float threshold;
    int32_t left;
    int32_t feature;
    int32_t missing_left;
};

enum { TOGETHER = 8 };

/* Walk a row through up to eight trees at once, each for `depth` steps without a branch, so that their memory accesses
 * overlap; leave the leaves in `at`. */
static inline void walk(const float *row, const struct node *nodes, int64_t depth, int gaps, int32_t *at)
{
    for (int64_t step = 0; step < depth; step++)
        for (int k = 0; k < TOGETHER; k++) {
            const struct node *node = nodes + at[k];
            float x = row[node->feature];
            int right = x > node->threshold;
            if (gaps)
                right |= (x != x) & !node->missing_left;
            at[k] = node->left + right;
        }
}

/* All nodes of all trees, the path length that ends in each, and where the trees begin. */
struct forest {
    const struct node *nodes;
    const double *value;
    const int32_t *roots;
    int64_t trees;
    int64_t depth;
    int64_t width;
};

/* Add up a row's path lengths in all trees, in the order of the trees. The caller guarantees that a row of floats fits
 * on the stack. */
double path_length(const double *exact, const struct forest *of)
{
    float row[of->width];
    int gaps = 0;
    for (int64_t f = 0; f < of->width; f++) {
        row[f] = (float)exact[f];
        gaps |= row[f] != row[f];
    }
    double sum = 0;
    for (int64_t tree = 0; tree < of->trees; tree += TOGETHER) {
        int32_t at[TOGETHER];
        int64_t some = of->trees - tree < TOGETHER ? of->trees - tree : TOGETHER;
        for (int64_t k = 0; k < TOGETHER; k++)
            at[k] = of->roots[tree + (k < some ? k : 0)];
        if (gaps)
            walk(row, of->nodes, of->depth, 1, at);
        else
            walk(row, of->nodes, of->depth, 0, at);
        for (int64_t k = 0; k < some; k++)
            sum += of->value[at[k]];
    }
    return sum;
}

/* Do so for each of `count` rows. */
void path_lengths(const double *rows, int64_t count, const struct forest *of, double *total)
{
    for (int64_t i = 0; i < count; i++)
        total[i] = path_length(rows + i * of->width, of);
}

/* Leaves with the same `length` (at most 8) features on their paths, in runs that have the very same ones: `columns` is
 * (runs, length), run r holds leaves `starts[r]` up to `starts[r + 1]`. A row meets condition k of a leaf if
 * low < x <= high, and with NaN if `missing`; these three are (length, leaves), so that one condition of many leaves is
 * compared at once. `table` is (leaves, 2^length, length): contributions by which conditions are met. */
struct leaves {
    const float *low;
    const float *high;
    const uint8_t *missing;
    const int32_t *columns;
    const int64_t *starts;
    const double *table;
    int64_t runs;
};

enum { BLOCK = 256 };

/* Say which of `some` leaves from `first` on meet condition k: bit k of their patterns. */
static inline void compare(const struct leaves *of, int64_t all, int64_t k, int64_t first, int64_t some, float x,
                           uint32_t *restrict pattern)
{
    const float *low = of->low + k * all + first, *high = of->high + k * all + first;
    const uint8_t *missing = of->missing + k * all + first;
    if (fabsf(x) < INFINITY)
        for (int64_t i = 0; i < some; i++)
            pattern[i] |= (uint32_t)((x > low[i]) & (x <= high[i])) << k;
    else if (x != x)
        for (int64_t i = 0; i < some; i++)
            pattern[i] |= (uint32_t)missing[i] << k;
    else /* no value is above -inf, but -inf itself goes left everywhere */
        for (int64_t i = 0; i < some; i++)
            pattern[i] |= (uint32_t)(((x > low[i]) | (low[i] == -INFINITY)) & (x <= high[i])) << k;
}

/* Inlined with `length` a constant, so that the loops over it are unrolled. */
static inline void look_up(const float *row, const struct leaves *of, int64_t length, double *total)
{
    int64_t all = of->starts[of->runs];
    for (int64_t run = 0; run < of->runs; run++) {
        const int32_t *columns = of->columns + run * length;
        double sum[8] = {0};
        for (int64_t first = of->starts[run]; first < of->starts[run + 1]; first += BLOCK) {
            int64_t left = of->starts[run + 1] - first, some = left < BLOCK ? left : BLOCK;
            uint32_t pattern[BLOCK] = {0};
            for (int64_t k = 0; k < length; k++)
                compare(of, all, k, first, some, row[columns[k]], pattern);
            for (int64_t i = 0; i < some; i++) {
                const double *entry = of->table + (((first + i) << length) + pattern[i]) * length;
                for (int64_t k = 0; k < length; k++)
                    sum[k] += entry[k];
            }
        }
        for (int64_t k = 0; k < length; k++)
            total[columns[k]] += sum[k];
    }
}

/* Add the leaves' contributions for each row to `values`, (count, width). */
void shap_values(const float *rows, int64_t count, int64_t width, const float *low, const float *high,
                 const uint8_t *missing, const int32_t *columns, const int64_t *starts, const double *table,
                 int64_t runs, int64_t length, double *values)
{
    const struct leaves of = {low, high, missing, columns, starts, table, runs};
    for (int64_t i = 0; i < count; i++, rows += width, values += width)
        switch (length) {
        case 1: look_up(rows, &of, 1, values); break;
        case 2: look_up(rows, &of, 2, values); break;
        case 3: look_up(rows, &of, 3, values); break;
        case 4: look_up(rows, &of, 4, values); break;
        case 5: look_up(rows, &of, 5, values); break;
        case 6: look_up(rows, &of, 6, values); break;
        case 7: look_up(rows, &of, 7, values); break;
        default: look_up(rows, &of, 8, values); break;
        }
}

/* Merge two ascending samples. found[0]: largest gap between their distribution functions; found[1]: area between
 * them; found[2]: the sum over distinct values in the Anderson-Darling statistic with mid-ranks. */
void merge(const double *a, int64_t m, const double *b, int64_t n, double *found)
{
    double total = (double)(m + n), gap = 0, area = 0, sum = 0, distance = 0, before = 0;
    int64_t i = 0, j = 0;
    while (i < m || j < n) {
        double at = j == n || (i < m && a[i] <= b[j]) ? a[i] : b[j];
        int64_t from_a = i, from_b = j;
        if (i || j)
            area += distance * (at - before);
        while (i < m && a[i] == at)
            i++;
        while (j < n && b[j] == at)
            j++;
        double ties = (double)(i - from_a + j - from_b);
        double middle = (double)(from_a + from_b) + ties / 2, middle_a = (double)(from_a + i) / 2;
        double inner = total * middle_a - middle * (double)m;
        sum += ties * inner * inner / (middle * (total - middle) - total * ties / 4);
        distance = fabs((double)i / (double)m - (double)j / (double)n);
        if (distance > gap)
            gap = distance;
        before = at;
    }
    found[0] = gap;
    found[1] = area;
    found[2] = sum;
}
