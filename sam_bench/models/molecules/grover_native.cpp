// The block of GROVER on one thread of a CPU, in float32: message networks, projections and attention, and their
// gradients. grover_native.py says what they compute. Rows are padded with zeros to whole vectors. A row goes through
// every operation of a hop in pieces of CHUNK rows, which stay in the first cache. Every sum has one fixed order.

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
constexpr int64_t CHUNK = 48, MOST_HEADS = 16, MOST_WIDTH = 128;

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

struct Shape {
  int64_t rows, hidden, heads, messages;  // messages: hops of all networks together
};

struct Relation {  // row r is the sum of the rows index[start[r]:start[r + 1]]
  const int32_t *index, *start;
  int64_t entries;
};

// Where the parts of one buffer begin. The first five are kept from the forward to the backward pass.
struct Space {
  int64_t width, all;  // of a padded row; of all rows
  float *x, *first, *messages, *projected, *shares;
  float *grad_x, *grad_first, *upstream, *next_upstream;
  float *hop, *projection, *grad, *grad_projection, *bias, *a, *b, *end;

  Space(const Shape& s, float* begin) : end(begin) {
    width = (s.hidden + LANES - 1) / LANES * LANES, all = s.rows * width;
    x = take(all), first = take(all), messages = take(s.messages * all), projected = take(3 * s.heads * all);
    shares = take(s.rows * s.heads * s.heads * s.heads);
    grad_x = take(all), grad_first = take(all), upstream = take(all), next_upstream = take(all);
    hop = take(s.hidden * width), projection = take(s.hidden * width), grad = take(s.hidden * width);
    grad_projection = take(3 * s.hidden * width), bias = take(3 * width), a = take(CHUNK * width);
    b = take(CHUNK * width), take(MOST_WIDTH);  // a slice is read in whole vectors, past the end of its row
  }
  float* take(int64_t floats) {
    float* begin = end;
    end += (floats + LANES - 1) / LANES * LANES;
    return begin;
  }
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
  Vector sum[R][T];
  for (int r = 0; r < R; r++)
    for (int t = 0; t < T; t++)
      sum[r][t] = p.init ? load(p.init + (row + r) * p.init_down + column + t * LANES) : Vector{};
  const float *a = p.a + row * p.down, *b = p.b + column;
  for (int64_t k = 0; k < p.depth; k++, a += p.on, b += p.width) {
    Vector line[T];
    for (int t = 0; t < T; t++) line[t] = load(b + t * LANES);
    for (int r = 0; r < R; r++)
      for (int t = 0; t < T; t++) sum[r][t] += a[r * p.down] * line[t];
  }
  for (int r = 0; r < R; r++)
    for (int t = 0; t < T; t++) {
      Vector v = sum[r][t];
      if (p.relu) v = v < 0.0f ? Vector{} : v;  // NaN stays NaN
      store(p.out + (row + r) * p.width + column + t * LANES, v);
    }
}

template <int T>
static void columns(const Product& p, int64_t column) {
  constexpr int fit = (REGISTERS - 2 - T) / T, R = fit > 12 ? 12 : fit < 1 ? 1 : fit;
  int64_t row = 0;
  for (; row + R <= p.rows; row += R) tile<R, T>(p, row, column);
  for (; row < p.rows; row++) tile<1, T>(p, row, column);
}

static void multiply(const Product& p) {
  constexpr int64_t most = REGISTERS >= 32 ? 7 : 4;
  for (int64_t column = 0; column < p.width;) {
    int64_t left = (p.width - column) / LANES, parts = (left + most - 1) / most, now = (left + parts - 1) / parts;
    switch (now) {
      case 1: columns<1>(p, column); break;
      case 2: columns<2>(p, column); break;
      case 3: columns<3>(p, column); break;
      case 4: columns<4>(p, column); break;
      case 5: columns<5>(p, column); break;
      case 6: columns<6>(p, column); break;
      default: columns<7>(p, column);
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

// ---- attention over the heads of one slice of one row -----------------------------------------------------------------

struct Slices {  // a slice of each head, padded with zeros to whole vectors
  Vector v[MOST_HEADS][MOST_WIDTH / LANES];
};

static inline Mask inside(int64_t width, int64_t t) {
  Mask mask;
  for (int i = 0; i < LANES; i++) mask[i] = t * LANES + i < width ? -1 : 0;
  return mask;
}

struct Attention {
  int64_t heads, width, vectors, all;  // width: of a slice; all: floats of a network
  float scale;
  Mask mask[MOST_WIDTH / LANES];

  Attention(const Shape& s, const Space& in) : heads(s.heads), width(s.hidden / s.heads), all(in.all) {
    vectors = (width + LANES - 1) / LANES, scale = 1 / std::sqrt(static_cast<float>(width));
    for (int64_t t = 0; t < vectors; t++) mask[t] = inside(width, t);
  }
  void read(Slices& to, const float* from) const {
    for (int64_t h = 0; h < heads; h++)
      for (int64_t t = 0; t < vectors; t++)
        to.v[h][t] = reinterpret_cast<Vector>(reinterpret_cast<Mask>(load(from + h * all + t * LANES)) & mask[t]);
  }
  void replace(float* to, const Slices& by) const {
    for (int64_t h = 0; h < heads; h++)
      for (int64_t t = 0; t < vectors; t++) {
        float* place = to + h * all + t * LANES;
        store(place, mask[t] ? by.v[h][t] : load(place));
      }
  }
  float dot(const Vector* a, const Vector* b) const {
    Vector sum = a[0] * b[0];
    for (int64_t t = 1; t < vectors; t++) sum += a[t] * b[t];
    return total(sum);
  }
  // to_i = sum over j of share(i, j) from_j; share(i, j) is at i * down + j * on
  void mix(Slices& to, const float* share, int64_t down, int64_t on, const Slices& from) const {
    for (int64_t i = 0; i < heads; i++)
      for (int64_t t = 0; t < vectors; t++) {
        Vector sum{};
        for (int64_t j = 0; j < heads; j++) sum += share[i * down + j * on] * from.v[j][t];
        to.v[i][t] = sum;
      }
  }
  void forward(const float* q, const float* k, const float* v, float* share, float* out, int64_t out_down) const {
    Slices query, key, value, mixed;
    read(query, q), read(key, k), read(value, v);
    for (int64_t i = 0; i < heads; i++) {
      float *row = share + i * heads, sum = 0;
      for (int64_t j = 0; j < heads; j++) row[j] = dot(query.v[i], key.v[j]) * scale;
      const float most = *std::max_element(row, row + heads);
      for (int64_t j = 0; j < heads; j++) sum += row[j] = std::exp(row[j] - most);
      for (int64_t j = 0; j < heads; j++) row[j] /= sum;
    }
    mix(mixed, share, heads, 1, value);
    for (int64_t i = 0; i < heads; i++) std::memcpy(out + i * out_down, mixed.v[i], width * sizeof(float));
  }
  // replaces query, key and value by their gradients
  void backward(const float* grad, int64_t grad_down, const float* share, float* q, float* k, float* v) const {
    Slices given, query, key, value, mixed;
    float score[MOST_HEADS * MOST_HEADS];
    read(query, q), read(key, k), read(value, v);
    for (int64_t i = 0; i < heads; i++) {
      given.v[i][vectors - 1] = Vector{};
      std::memcpy(given.v[i], grad + i * grad_down, width * sizeof(float));
    }
    for (int64_t i = 0; i < heads; i++) {
      float along = 0;
      for (int64_t j = 0; j < heads; j++) {
        score[i * heads + j] = dot(given.v[i], value.v[j]);
        along += score[i * heads + j] * share[i * heads + j];
      }
      for (int64_t j = 0; j < heads; j++)
        score[i * heads + j] = share[i * heads + j] * (score[i * heads + j] - along) * scale;
    }
    mix(mixed, score, heads, 1, key), replace(q, mixed);
    mix(mixed, score, 1, heads, query), replace(k, mixed);
    mix(mixed, share, 1, heads, given), replace(v, mixed);
  }
};

// ---- the block ----------------------------------------------------------------------------------------------------

extern "C" int64_t most_heads() { return MOST_HEADS; }
extern "C" int64_t most_width() { return MOST_WIDTH; }

extern "C" int64_t floats(const Shape* s) { return reinterpret_cast<intptr_t>(Space(*s, nullptr).end) / 4; }

extern "C" void forward(const Shape* shape, const int64_t* hops, const Relation* neighbours, const float* x,
                        const float* const* matrices, const float* weight, const float* bias, float* buffer,
                        float* out) {
  const Shape& s = *shape;
  const Space in(s, buffer);
  const int64_t rows = s.rows, hidden = s.hidden, heads = s.heads, width = in.width;
  pad(in.x, x, rows, hidden, width), pad(in.bias, bias, 3, hidden, width);
  sum_neighbours(in.first, in.x, *neighbours, 0, rows, rows, width);
  float* next = in.messages;
  for (int64_t i = 0; i < 3 * heads; i++) {
    const int64_t part = i / heads;
    pad_transposed(in.hop, matrices[i], hidden, width);
    pad_transposed(in.projection, weight + part * hidden * hidden, hidden, width);
    const float* message = in.x;
    for (int64_t hop = 0; hop < hops[i]; message = next, next += in.all, hop++)
      for (int64_t row = 0; row < rows; row += CHUNK) {
        const int64_t some = std::min(CHUNK, rows - row), at = row * width;
        if (hop) sum_neighbours(in.a, message, *neighbours, row, some, rows, width);
        rows_by(hop ? in.a : in.first + at, in.hop, in.x + at, width, next + at, some, hidden, width, true);
      }
    rows_by(message, in.projection, in.bias + part * width, 0, in.projected + i * in.all, rows, hidden, width);
  }
  const Attention attention(s, in);
  for (int64_t row = 0; row < rows; row++)
    for (int64_t slice = 0; slice < heads; slice++) {
      float* q = in.projected + row * width + slice * attention.width;
      float* share = in.shares + (row * heads + slice) * heads * heads;
      attention.forward(q, q + heads * in.all, q + 2 * heads * in.all, share,
                        out + row * heads * hidden + slice * attention.width, hidden);
    }
}

extern "C" void backward(const Shape* shape, const int64_t* hops, const Relation* neighbours, const Relation* reversed,
                         const float* const* matrices, const float* weight, const float* grad, float* buffer,
                         float* grad_x, float* const* grad_matrices, float* grad_weight, float* grad_bias) {
  const Shape& s = *shape;
  Space in(s, buffer);
  const int64_t rows = s.rows, hidden = s.hidden, heads = s.heads, width = in.width, square = hidden * width;
  const Attention attention(s, in);
  for (int64_t row = 0; row < rows; row++)
    for (int64_t slice = 0; slice < heads; slice++) {
      float* q = in.projected + row * width + slice * attention.width;
      attention.backward(grad + row * heads * hidden + slice * attention.width, hidden,
                         in.shares + (row * heads + slice) * heads * heads, q, q + heads * in.all,
                         q + 2 * heads * in.all);
    }
  std::fill(in.grad_x, in.grad_x + in.all, 0.0f), std::fill(in.grad_first, in.grad_first + in.all, 0.0f);
  std::fill(in.grad_projection, in.grad_projection + 3 * square, 0.0f);
  std::fill(in.bias, in.bias + 3 * width, 0.0f);
  const float* messages = in.messages;
  for (int64_t i = 0; i < 3 * heads; messages += hops[i] * in.all, i++) {
    const int64_t part = i / heads, last = hops[i] - 1;
    const float *given = in.projected + i * in.all, *end = last < 0 ? in.x : messages + last * in.all;
    pad(in.hop, matrices[i], hidden, hidden, width);
    pad(in.projection, weight + part * hidden * hidden, hidden, hidden, width);
    std::fill(in.grad, in.grad + square, 0.0f);
    for (int64_t row = 0; row < rows; row += CHUNK) {
      const int64_t some = std::min(CHUNK, rows - row), at = row * width;
      add_outer(given + at, end + at, in.grad_projection + part * square, some, hidden, width);
      for (int64_t r = 0; r < some; r++) add(in.bias + part * width, given + at + r * width, width);
      if (last < 0)
        rows_by(given + at, in.projection, in.grad_x + at, width, in.grad_x + at, some, hidden, width);
    }
    for (int64_t hop = last; hop >= 0; std::swap(in.upstream, in.next_upstream), hop--)
      for (int64_t row = 0; row < rows; row += CHUNK) {
        const int64_t some = std::min(CHUNK, rows - row), at = row * width;
        const float* message = messages + hop * in.all + at;
        if (hop == last)
          rows_by(given + at, in.projection, nullptr, 0, in.a, some, hidden, width);
        else
          sum_neighbours(in.a, in.upstream, *reversed, row, some, rows, width);
        for (int64_t c = 0; c < some * width; c += LANES)
          store(in.a + c, load(message + c) <= 0.0f ? Vector{} : load(in.a + c));
        add(in.grad_x + at, in.a, some * width);
        if (hop) sum_neighbours(in.b, message - at - in.all, *neighbours, row, some, rows, width);
        add_outer(in.a, hop ? in.b : in.first + at, in.grad, some, hidden, width);
        float* to = (hop ? in.next_upstream : in.grad_first) + at;
        rows_by(in.a, in.hop, hop ? nullptr : to, width, to, some, hidden, width);
      }
    unpad(grad_matrices[i], in.grad, hidden, hidden, width);
  }
  for (int64_t row = 0; row < rows; row += CHUNK) {
    const int64_t some = std::min(CHUNK, rows - row);
    sum_neighbours(in.a, in.grad_first, *reversed, row, some, rows, width);
    add(in.grad_x + row * width, in.a, some * width);
  }
  unpad(grad_x, in.grad_x, rows, hidden, width), unpad(grad_bias, in.bias, 3, hidden, width);
  unpad(grad_weight, in.grad_projection, 3 * hidden, hidden, width);
}
