// Products, and sums over neighbours, of float32 rows padded with zeros to whole vectors. Every sum has one fixed order.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#if defined(__AVX512F__)
#include <immintrin.h>
constexpr int LANES = 16, REGISTERS = 32;
#elif defined(__AVX__)
constexpr int LANES = 8, REGISTERS = 16;
#else
constexpr int LANES = 4, REGISTERS = 16;
#endif

typedef float Vector __attribute__((vector_size(4 * LANES)));
typedef float Anywhere __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t Mask __attribute__((vector_size(4 * LANES)));

static inline Vector load(const float* from) { return *reinterpret_cast<const Anywhere*>(from); }
static inline void store(float* to, Vector v) { *reinterpret_cast<Anywhere*>(to) = v; }

static inline float total(Vector v) {
#if defined(__AVX512F__)
  return _mm512_reduce_add_ps(reinterpret_cast<__m512>(v));
#else
  float sum = 0;
  for (int i = 0; i < LANES; i++) sum += v[i];
  return sum;
#endif
}

struct Relation {  // row r is the sum of the rows index[start[r]:start[r + 1]]
  const int32_t *index, *start;
  int64_t entries;
};

// ---- products -----------------------------------------------------------------------------------------------------

struct Product {  // out (rows, width) = init + a (rows, depth) * b (depth, width); a's element (r, k) is at r * down + k * on
  const float *a, *b, *init;
  float* out;
  int64_t rows, depth, width, down, on, init_down;
  bool relu;
};

template <int R, int T>
static inline void tile(const Product& p, int64_t row, int64_t column) {
  Vector sum[R][T];  // in registers: all loops over it are unrolled
#pragma GCC unroll 16
  for (int r = 0; r < R; r++)
#pragma GCC unroll 16
    for (int t = 0; t < T; t++)
      sum[r][t] = p.init ? load(p.init + (row + r) * p.init_down + column + t * LANES) : Vector{};
  const float *a = p.a + row * p.down, *b = p.b + column;
  for (int64_t k = 0; k < p.depth; k++, a += p.on, b += p.width) {
    Vector line[T];
#pragma GCC unroll 16
    for (int t = 0; t < T; t++) line[t] = load(b + t * LANES);
#pragma GCC unroll 16
    for (int r = 0; r < R; r++)
#pragma GCC unroll 16
      for (int t = 0; t < T; t++) sum[r][t] += a[r * p.down] * line[t];
  }
#pragma GCC unroll 16
  for (int r = 0; r < R; r++)
#pragma GCC unroll 16
    for (int t = 0; t < T; t++) {
      Vector v = sum[r][t];
      if (p.relu) v = v < 0.0f ? Vector{} : v;  // NaN stays NaN
      store(p.out + (row + r) * p.width + column + t * LANES, v);
    }
}

template <int R, int T>
static void down(const Product& p, int64_t row, int64_t column) {
  for (; row + R <= p.rows; row += R) tile<R, T>(p, row, column);
  if constexpr (R > 1) down<R / 2, T>(p, row, column);
}

// As many rows as the registers hold sums of, so that a line of b is read seldom.
template <int T>
static void columns(const Product& p, int64_t column) {
  constexpr int fit = (REGISTERS - 2 - T) / T;
  down<fit >= 12 ? 12 : fit >= 8 ? 8 : fit >= 6 ? 6 : 4, T>(p, 0, column);
}

static void multiply(const Product& p) {
  constexpr int64_t most = REGISTERS >= 32 ? 4 : 2;  // vectors side by side
  for (int64_t column = 0; column < p.width;) {
    int64_t left = (p.width - column) / LANES, parts = (left + most - 1) / most, now = (left + parts - 1) / parts;
    switch (now) {
      case 1: columns<1>(p, column); break;
      case 2: columns<2>(p, column); break;
      case 3: columns<3>(p, column); break;
      default: columns<4>(p, column);
    }
    column += now * LANES;
  }
}

// out (rows, width) = init + a (rows, depth) * b (depth, width), rows of a being `width` apart
static void rows_by(const float* a, const float* b, const float* init, int64_t init_down, float* out, int64_t rows,
                    int64_t depth, int64_t width, bool relu = false) {
  multiply({a, b, init, out, rows, depth, width, width, 1, init_down, relu});
}

// out (columns, width) += a' b for a (rows, columns) and b (rows, width), rows of a being `width` apart
static void add_outer(const float* a, const float* b, float* out, int64_t rows, int64_t columns, int64_t width) {
  multiply({a, b, out, out, columns, rows, width, 1, width, width, false});
}

// ---- rows ---------------------------------------------------------------------------------------------------------

static void pad(float* to, const float* from, int64_t rows, int64_t hidden, int64_t width) {
  for (int64_t r = 0; r < rows; r++) {
    std::memcpy(to + r * width, from + r * hidden, hidden * sizeof(float));
    std::fill(to + r * width + hidden, to + (r + 1) * width, 0.0f);
  }
}

static void unpad(float* to, const float* from, int64_t rows, int64_t hidden, int64_t width) {
  for (int64_t r = 0; r < rows; r++) std::memcpy(to + r * hidden, from + r * width, hidden * sizeof(float));
}

static void pad_transposed(float* to, const float* from, int64_t hidden, int64_t width) {
  for (int64_t k = 0; k < hidden; k++) {
    for (int64_t j = 0; j < hidden; j++) to[k * width + j] = from[j * hidden + k];
    std::fill(to + k * width + hidden, to + (k + 1) * width, 0.0f);
  }
}

static void add(float* to, const float* from, int64_t floats) {
  for (int64_t i = 0; i < floats; i += LANES) store(to + i, load(to + i) + load(from + i));
}

static void sum_neighbours(float* to, const float* x, const Relation& of, int64_t begin, int64_t rows, int64_t total,
                           int64_t width) {
  for (int64_t r = begin; r < begin + rows; r++, to += width) {
    int64_t from = of.start[r], until = r + 1 < total ? of.start[r + 1] : of.entries;
    for (int64_t c = 0; c < width; c += LANES) {
      Vector sum{};
      for (int64_t e = from; e < until; e++) sum += load(x + of.index[e] * width + c);
      store(to + c, sum);
    }
  }
}
