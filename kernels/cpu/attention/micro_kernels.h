// The inner loops of attention as a table of functions, one table per instruction set; everything around them (pages,
// masks, splits, selection, threads) is written once. Any thread. This header is included by sources built for newer
// processors: it holds no inline function.
//
// Letters: a *unit* is 32 bits along a reduction: one fp32 element, or a pair of bf16 elements. A *panel* is 16 columns
// of a right-hand matrix, stored [units][16]. Both products of attention are then one function, `multiply`:
//   S[row][key] = Q[row][unit of d] · K panels [key / 16][unit of d][16 keys]
//   O[row][e]   = P[row][unit of key] · V panels [e / 16][unit of key][16 e]
#pragma once

#include <cstdint>

namespace hysparse::cpu {

constexpr int kLanes = 16;
constexpr int kTileKeys = 64;    // keys packed at a time, at absolute multiples of 64
constexpr int kSplitKeys = 512;  // keys under one softmax maximum, at absolute multiples of 512
constexpr int kSplitTiles = kSplitKeys / kTileKeys;
constexpr int kSplitVectors = kSplitKeys / kLanes;
constexpr int kTileVectors = kTileKeys / kLanes;
constexpr int kSubRows = 32;                                     // rows whose scores are held at a time
constexpr int kScoreStride = kSplitKeys + 16;                    // floats; not a power of two, for the caches' sake
constexpr int kValueStride = kSplitKeys * kLanes + kLanes * 16;  // units of one V panel of a split, likewise

// The keys of one split that one token sees.
struct KeyMask {
  uint16_t lane[kSplitVectors];  // bit i of lane[j]: key 16 j + i
  uint32_t vectors;              // bit j: some key of lane[j]
  uint8_t any;                   // bit t: some key of tile t
  uint8_t full;                  // bit t: every key of tile t
};

struct MicroKernels {
  const char* name;
  bool pairs;      // units are bf16 pairs
  int unit_align;  // units of a row of Q are a multiple of this

  // Called by a worker before and after it uses the others (AMX needs its tiles configured).
  void (*begin)();
  void (*end)();

  // One row of q, fp32 [dim] -> units.
  void (*pack_query)(const float* q, int dim, int units, void* out);
  // 64 rows of K [dim] -> 4 panels [units][16]; 64 rows of V [dim] -> panels at kValueStride units. The 64 rows `next`
  // are fetched into the caches meanwhile: decodes run at the speed of memory.
  void (*pack_keys)(const void* const* rows, const void* const* next, int dim, int units, void* out);
  void (*pack_values)(const void* const* rows, const void* const* next, int dim, void* out);

  // c[rows][16 panels] (+)= a[rows][units] · b. Strides in units (a, b) and floats (c). Rows of `a` and `c` up to the
  // next multiple of 16 are readable and writable.
  void (*multiply)(const void* a, int64_t a_stride, int rows, const void* b, int64_t panel_stride, int panels,
                   int units, float* c, int64_t c_stride, bool accumulate);

  // Highest visible score of a row, over the tiles of the bit set `tiles`; -inf when none is visible.
  float (*max_row)(const float* scores, const KeyMask& mask, uint32_t tiles);
  // The same, and block_max[block_of_vector[j]] = max(itself, vector j's highest visible score).
  float (*max_row_by_block)(const float* scores, const KeyMask& mask, uint32_t tiles, const int32_t* block_of_vector,
                            float* block_max);
  // Replaces scores by exp2(score * scale - peak), 0 where masked, as units; returns their sum.
  float (*exp_row)(float* scores, const KeyMask& mask, uint32_t tiles, float scale, float peak);

  // acc = acc * a + add * b
  void (*fold)(float* acc, float a, const float* add, float b, int n);
  // out = acc * scale, as fp32 or bf16 (nearest even).
  void (*store)(const float* acc, float scale, int n, void* out, bool bf16);
  // score = max(score, block_max * scale - lse)
  void (*max_score)(float* score, const float* block_max, float scale, float lse, int n);
};

// `bf16_pages`: what pack_keys and pack_values read.
const MicroKernels& PortableKernels(bool bf16_pages);
const MicroKernels& Avx2Kernels(bool bf16_pages);
const MicroKernels& Avx512Kernels(bool bf16_pages);
const MicroKernels& Avx512Bf16Kernels();  // bf16 pages
const MicroKernels& AmxKernels();         // bf16 pages

}  // namespace hysparse::cpu
