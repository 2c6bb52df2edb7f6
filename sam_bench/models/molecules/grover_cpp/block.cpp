// The block of GROVER on one thread of a CPU, in float32: message networks, projections and attention, and their
// gradients. grover_native.py says what they compute. A hop takes CHUNK rows through all its operations, then the next
// ones: they stay in the first cache.

#include "attention.h"

constexpr int64_t CHUNK = 48;

struct Shape {
  int64_t rows, hidden, heads, messages;  // messages: hops of all networks together
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
  const Attention attention(heads, hidden, in.all);
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
  const Attention attention(heads, hidden, in.all);
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
