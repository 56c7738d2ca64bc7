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

/* What one feature of a row must satisfy on the path to a leaf: low < x <= high. */
struct box {
    float low;
    float high;
    int32_t column;
    int32_t missing;
};

/* Look up the contributions of leaves with `length` (at most 8) features on their paths by which of the conditions a
 * row meets, and add them to `values`, (count, width). `boxes` is (leaves, length), `table` (leaves, 2^length, length). */
void shap_values(const float *rows, int64_t count, int64_t width, const struct box *boxes, const double *table,
                 int64_t leaves, int64_t length, double *values)
{
    for (int64_t i = 0; i < count; i++) {
        const float *row = rows + i * width;
        double *total = values + i * width;
        int special = 0;
        for (int64_t f = 0; f < width; f++)
            special |= !(fabsf(row[f]) < INFINITY);
        for (int64_t leaf = 0; leaf < leaves; leaf++) {
            const struct box *box = boxes + leaf * length;
            int64_t pattern = leaf << length;
            for (int64_t k = 0; k < length; k++) {
                float x = row[box[k].column];
                int met = (x > box[k].low) & (x <= box[k].high);
                if (special)
                    met = x != x ? box[k].missing : met | ((box[k].low == -INFINITY) & (x <= box[k].high));
                pattern |= (int64_t)met << k;
            }
            const double *entry = table + pattern * length;
            for (int64_t k = 0; k < length; k++)
                total[box[k].column] += entry[k];
        }
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
