// Attention over the heads, for one slice of one row at a time, and its gradient.
#pragma once

#include "rows.h"

constexpr int64_t MOST_HEADS = 16, MOST_WIDTH = 128;  // of a slice

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

  Attention(int64_t heads, int64_t hidden, int64_t all) : heads(heads), width(hidden / heads), all(all) {
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
