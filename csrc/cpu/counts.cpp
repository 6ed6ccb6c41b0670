#include "counts.h"

#include "cpu/parallel.h"

namespace softmap::cpu {
namespace {

constexpr Index kBlock = 1024;            // rows that are read at once
constexpr Index kChunk = Index(1) << 17;  // rows
constexpr Index kMostTableBytes = Index(1) << 26;
constexpr std::uint32_t kBad = ~std::uint32_t(0);

// What is no item of any set becomes kBad or stays beyond all of them.
template <class T>
void read_index(const T* from, Index step, int count, std::uint32_t* to) {
  const auto index = [](T x) {
    if constexpr (sizeof(T) <= 4) return static_cast<std::uint32_t>(x);
    return x >= T(0) && x < T(kMostCountedItems) ? static_cast<std::uint32_t>(x) : kBad;
  };
  if (step == 1) {
    for (int k = 0; k < count; ++k) to[k] = index(from[k]);
  } else {
    for (int k = 0; k < count; ++k) to[k] = index(*from);
  }
}
template <class T>
void read_outcome(const T* from, Index step, int count, std::uint32_t* to) {
  const auto kind = [](T x) { return x == T(1) ? 0u : x == T(0) ? 1u : 2 * x == T(1) ? 2u : 3u; };
  if (step == 1) {
    for (int k = 0; k < count; ++k) to[k] = kind(from[k]);
  } else {
    for (int k = 0; k < count; ++k) to[k] = kind(*from);
  }
}

// Values of rows [first, first + count), or the codes of the column where it has places. `read` tells items from outcomes.
template <class Read>
void read_column(const PairColumn& column, Index first, int count, std::uint32_t* to, Read&& read) {
  const auto at = [&](auto* p) { return p + column.step * first; };
  switch (column.type) {
    case ColumnType::kInt8:
      return read(at(static_cast<const std::int8_t*>(column.data)), column.step, count, to);
    case ColumnType::kInt32:
      return read(at(static_cast<const std::int32_t*>(column.data)), column.step, count, to);
    case ColumnType::kInt64:
      return read(at(static_cast<const std::int64_t*>(column.data)), column.step, count, to);
    case ColumnType::kDouble:
      return read(at(static_cast<const double*>(column.data)), column.step, count, to);
  }
}
void read_items(const PairColumn& column, Index first, int count, std::uint32_t* to) {
  read_column(column, first, count, to,
              [](const auto* p, Index step, int n, std::uint32_t* out) { read_index(p, step, n, out); });
  if (!column.places) return;
  const auto n_places = static_cast<std::uint32_t>(column.n_places);
  for (int k = 0; k < count; ++k) to[k] = to[k] < n_places ? static_cast<std::uint32_t>(column.places[to[k]]) : kBad;
}

struct Block {
  std::uint32_t left[kBlock], right[kBlock], outcome[kBlock];

  // Reads `count` rows; returns whether all are good.
  bool read(const PairRows& rows, Index first, int count) {
    read_items(rows.left, first, count, left);
    read_items(rows.right, first, count, right);
    if (rows.outcome.places) {
      read_items(rows.outcome, first, count, outcome);
    } else {
      const auto read = [](const auto* p, Index step, int n, std::uint32_t* out) { read_outcome(p, step, n, out); };
      read_column(rows.outcome, first, count, outcome, read);
    }
    const auto n = static_cast<std::uint32_t>(rows.n_items);
    std::uint32_t bad = 0;
    for (int k = 0; k < count; ++k) {
      bad |= std::uint32_t(left[k] >= n) | std::uint32_t(right[k] >= n) | std::uint32_t(left[k] == right[k]) |
             std::uint32_t(outcome[k] > 2);
    }
    return bad == 0;
  }
};

// Calls body(block, count) for the rows [first, last), in order; returns whether all are good.
template <class Body>
bool for_blocks(const PairRows& rows, Index first, Index last, Body&& body) {
  Block block;
  for (Index k = first; k < last; k += kBlock) {
    const int count = static_cast<int>(last - k < kBlock ? last - k : kBlock);
    if (!block.read(rows, k, count)) return false;
    body(block, count);
  }
  return true;
}

// A table of 3 n^2 counters for each thread, added up at the end: counts do not depend on who counted what.
bool count_dense(const PairRows& rows, NewCells new_cells, void* context, const Exec& exec) {
  const Index n = rows.n_items, size = 3 * n * n, table_bytes = size * Index(sizeof(std::uint32_t));
  const Index most = kMostTableBytes / table_bytes;
  const Exec limited{exec.n_threads < most ? exec.n_threads : static_cast<int>(most)};
  const int n_slots = slots_for(limited, rows.n_rows, kChunk, rows.n_rows);
  const Scratch<std::uint32_t> tables(n_slots, size);
  __builtin_memset(tables[0], 0, static_cast<std::size_t>(tables[n_slots] - tables[0]) * sizeof(std::uint32_t));
  bool good = true;
  parallel_for(limited, rows.n_rows, kChunk, rows.n_rows, [&](Index first, Index last, int slot) {
    std::uint32_t* const table = tables[slot];
    const auto width = static_cast<std::uint32_t>(n);
    const bool fine = for_blocks(rows, first, last, [&](Block& b, int count) {
      for (int k = 0; k < count; ++k) b.left[k] = (b.left[k] * width + b.right[k]) * 3 + b.outcome[k];
      for (int k = 0; k < count; ++k) ++table[b.left[k]];
    });
    if (!fine) __atomic_store_n(&good, false, __ATOMIC_RELAXED);
  });
  if (!good) return false;
  std::uint32_t* const total = tables[0];
  for (int slot = 1; slot < n_slots; ++slot) {
    for (Index k = 0; k < size; ++k) total[k] += tables[slot][k];
  }
  const auto used = [&](Index cell) { return (total[3 * cell] | total[3 * cell + 1] | total[3 * cell + 2]) != 0; };
  Index n_cells = 0;
  for (Index cell = 0; cell < n * n; ++cell) n_cells += used(cell);
  const Cells out = new_cells(context, n_cells);
  Index at = 0;
  for (Index i = 0; i < n; ++i) {
    for (Index j = 0; j < n; ++j) {
      const Index cell = i * n + j;
      if (!used(cell)) continue;
      out.left[at] = i;
      out.right[at] = j;
      out.wins[at] = total[3 * cell];
      out.losses[at] = total[3 * cell + 1];
      out.ties[at++] = total[3 * cell + 2];
    }
  }
  return true;
}

// Two counting sorts, by right and then by left; equal pairs are then neighbours. A record is left, right and outcome.
bool count_sparse(const PairRows& rows, NewCells new_cells, void* context) {
  const Index n = rows.n_items, m = rows.n_rows;
  const Scratch<Index> starts(2, n + 1);
  const Scratch<std::uint64_t> records(2, m);
  Index *const by_left = starts[0], *const by_right = starts[1];
  __builtin_memset(by_left, 0, static_cast<std::size_t>(starts[2] - by_left) * sizeof(Index));
  const bool good = for_blocks(rows, 0, m, [&](Block& b, int count) {
    for (int k = 0; k < count; ++k) {
      ++by_left[b.left[k] + 1];
      ++by_right[b.right[k] + 1];
    }
  });
  if (!good) return false;
  for (Index i = 0; i < n; ++i) {
    by_left[i + 1] += by_left[i];
    by_right[i + 1] += by_right[i];
  }
  std::uint64_t *const once = records[0], *const twice = records[1];
  for_blocks(rows, 0, m, [&](Block& b, int count) {
    for (int k = 0; k < count; ++k) {
      once[by_right[b.right[k]]++] = std::uint64_t(b.left[k]) << 32 | b.right[k] << 2 | b.outcome[k];
    }
  });
  for (Index k = 0; k < m; ++k) twice[by_left[once[k] >> 32]++] = once[k];
  Index n_cells = 0;
  for (Index k = 0; k < m; ++k) n_cells += k == 0 || twice[k] >> 2 != twice[k - 1] >> 2;
  const Cells out = new_cells(context, n_cells);
  Index at = -1;
  for (Index k = 0; k < m; ++k) {
    if (k == 0 || twice[k] >> 2 != twice[k - 1] >> 2) {
      ++at;
      out.left[at] = static_cast<std::int64_t>(twice[k] >> 32);
      out.right[at] = static_cast<std::int64_t>((twice[k] & 0xffffffffu) >> 2);
      out.wins[at] = out.losses[at] = out.ties[at] = 0;
    }
    std::int64_t* const counts[] = {out.wins, out.losses, out.ties};
    ++counts[twice[k] & 3][at];
  }
  return true;
}

}  // namespace

bool count_pairs(const PairRows& rows, NewCells new_cells, void* context, const Exec& exec) {
  const Index n = rows.n_items;
  const bool fits = n < 4096 && 12 * n * n <= kMostTableBytes && rows.n_rows < Index(kBad);
  if (fits && n * n <= rows.n_rows + 65536) return count_dense(rows, new_cells, context, exec);
  return count_sparse(rows, new_cells, context);
}

}  // namespace softmap::cpu
