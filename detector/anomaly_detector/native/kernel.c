/* The inner loops of scoring, explaining and drift, for those who have a compiler; NumPy does the same without.
 *
 * Compiled without fast-math and without contraction of multiply and add, so that each sum is rounded as NumPy and
 * scikit-learn round it. Arrays are C-contiguous; callers guarantee their sizes.
 */
#include <math.h>
#include <stdint.h>
#include <string.h>

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

/* Add up, for each of `count` rows, the path lengths in all trees, in the order of the trees. */
void path_lengths(const float *rows, int64_t count, int64_t width, const struct node *nodes, const double *value,
                  const int32_t *roots, int64_t trees, int64_t depth, double *total)
{
    for (int64_t i = 0; i < count; i++) {
        const float *row = rows + i * width;
        int gaps = 0;
        for (int64_t f = 0; f < width; f++)
            gaps |= row[f] != row[f];
        double sum = 0;
        for (int64_t tree = 0; tree < trees; tree += TOGETHER) {
            int32_t at[TOGETHER];
            int64_t some = trees - tree < TOGETHER ? trees - tree : TOGETHER;
            for (int64_t k = 0; k < TOGETHER; k++)
                at[k] = roots[tree + (k < some ? k : 0)];
            if (gaps)
                walk(row, nodes, depth, 1, at);
            else
                walk(row, nodes, depth, 0, at);
            for (int64_t k = 0; k < some; k++)
                sum += value[at[k]];
        }
        total[i] = sum;
    }
}

/* Mark in bit `bit` of each leaf's pattern whether x satisfies the leaf's conditions on one feature. */
static void satisfied(float x, const float *low, const float *high, const uint8_t *missing, int64_t leaves, int bit,
                      uint8_t *restrict pattern)
{
    if (x != x)
        for (int64_t leaf = 0; leaf < leaves; leaf++)
            pattern[leaf] |= (uint8_t)(missing[leaf] << bit);
    else if (x == -INFINITY)
        for (int64_t leaf = 0; leaf < leaves; leaf++)
            pattern[leaf] |= (uint8_t)((low[leaf] == -INFINITY) << bit);
    else
        for (int64_t leaf = 0; leaf < leaves; leaf++)
            pattern[leaf] |= (uint8_t)(((x > low[leaf]) & (x <= high[leaf])) << bit);
}

/* Look up each leaf's contributions by its pattern and add them up. `boxes` are (width, leaves), `table` is
 * (leaves, 2^width, width), `pattern` is room for `leaves` bytes; width is at most 8. */
void shap_values(const float *rows, int64_t count, int64_t width, const float *low, const float *high,
                 const uint8_t *missing, const double *table, int64_t leaves, uint8_t *pattern, double *values)
{
    int64_t patterns = (int64_t)1 << width;
    for (int64_t i = 0; i < count; i++) {
        double total[8] = {0};
        memset(pattern, 0, leaves);
        for (int64_t f = 0; f < width; f++)
            satisfied(rows[i * width + f], low + f * leaves, high + f * leaves, missing + f * leaves, leaves, (int)f,
                      pattern);
        for (int64_t leaf = 0; leaf < leaves; leaf++) {
            const double *entry = table + (leaf * patterns + pattern[leaf]) * width;
            for (int64_t f = 0; f < width; f++)
                total[f] += entry[f];
        }
        memcpy(values + i * width, total, width * sizeof(double));
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
