#include "counts.h"

#include "cpu/neighbours.h"
#include "cpu/parallel.h"

namespace softmap::cpu {
namespace {

constexpr Index kBlock = 1024;            // rows that are read at once
constexpr Index kChunk = Index(1) << 17;  // rows
constexpr Index kMostTableBytes = Index(1) << 25;
constexpr Index kPairsARow = 4;  // a table costs less than sorting down to so many pairs a row
constexpr Index kKinds = 3;      // of outcomes: twice the value, 0, 1 or 2
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
  const auto kind = [](T x) {
    constexpr std::uint32_t other = kKinds;
    if constexpr (T(0.5) == T(0)) return x == T(0) ? 0u : x == T(1) ? 2u : other;
    std::uint64_t bits;  // a comparison of floating-point numbers would be a branch each
    __builtin_memcpy(&bits, &x, sizeof x);
    const auto high = static_cast<std::uint32_t>(bits >> 52);  // sign and exponent
    const std::uint32_t twice = high == 0x3ffu ? 2u : high == 0x3feu ? 1u : (high & 0x7ffu) == 0 ? 0u : other;
    return bits << 12 == 0 ? twice : other;
  };
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
  std::uint32_t left[kBlock], right[kBlock], outcome[kBlock], group[kBlock];

  // Reads `count` rows, left as in Cells; returns whether all are good.
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
             std::uint32_t(outcome[k] >= kKinds);
    }
    if (rows.n_groups > 1) {
      read_items(rows.group, first, count, group);
      for (int k = 0; k < count; ++k) {
        bad |= std::uint32_t(group[k] >= static_cast<std::uint32_t>(rows.n_groups));
        left[k] += group[k] * n;
      }
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

constexpr int kFetched = 16;

// Fetches rows whose turn is one block later, when the processor is busy with this one. Inline: calls of a function without
// other effects may be left out.
[[gnu::always_inline]] inline void fetch(const PairRows& rows, Index first) {
  for (const PairColumn* column : {&rows.left, &rows.right, &rows.outcome, &rows.group}) {
    if (column->step != 1) continue;
    const Index size = column->type == ColumnType::kInt8 ? 1 : column->type == ColumnType::kInt32 ? 4 : 8;
    const char* const at = static_cast<const char*>(column->data) + size * first;
    for (Index byte = 0; byte < kFetched * size; byte += 64) __builtin_prefetch(at + byte);
  }
}

// Counts these keys, in bytes: a counter that is full goes on at 1, 255 less, and is added to the list. Returns its length.
std::uint32_t count_keys(const std::uint32_t* key, int count, std::uint8_t* table, std::uint32_t* list, std::uint32_t length) {
  for (int k = 0; k < count; ++k) {
    if (++table[key[k]] != 0) continue;
    table[key[k]] = 1;
    list[length++] = key[k];
  }
  return length;
}

// The place of `right` among the cells [first, last), where it is.
Index find(const std::int64_t* rights, Index first, Index last, Index right) {
  while (last - first > 1) {
    const Index middle = first + (last - first) / 2;
    (rights[middle] <= right ? first : last) = middle;
  }
  return first;
}

// For each thread a table for each kind of outcome, of one byte a pair so that it fits the caches, and the list of its full
// counters. Counts do not depend on who counted what.
bool count_dense(const PairRows& rows, NewCells new_cells, void* context, const Exec& exec) {
  const Index n = rows.n_items, n_left = n * rows.n_groups, n_pairs = n_left * n, most = kMostTableBytes / (kKinds * n_pairs);
  const Exec limited{exec.n_threads < most ? exec.n_threads : static_cast<int>(most)};
  const int n_slots = slots_for(limited, rows.n_rows, kChunk, rows.n_rows);
  const Scratch<std::uint8_t> tables(n_slots, kKinds * n_pairs);
  const Scratch<std::uint32_t> full(n_slots, 1 + rows.n_rows / 255);  // the first is the length
  __builtin_memset(tables[0], 0, static_cast<std::size_t>(tables[n_slots] - tables[0]));
  for (int slot = 0; slot < n_slots; ++slot) full[slot][0] = 0;
  bool good = true;
  parallel_for(limited, rows.n_rows, kChunk, rows.n_rows, [&](Index first, Index last, int slot) {
    const auto width = static_cast<std::uint32_t>(n), kind = static_cast<std::uint32_t>(n_pairs);
    std::uint32_t& length = full[slot][0];
    Index next = first;
    const bool fine = for_blocks(rows, first, last, [&](Block& b, int count) {
      std::uint32_t* const key = b.left;
      for (int k = 0; k < count; ++k) key[k] = key[k] * width + b.right[k] + b.outcome[k] * kind;
      next += count;
      for (int k = 0; k < count; k += kFetched) {
        fetch(rows, next + k);
        const int some = count - k < kFetched ? count - k : kFetched;
        length = count_keys(key + k, some, tables[slot], full[slot] + 1, length);
      }
    });
    if (!fine) __atomic_store_n(&good, false, __ATOMIC_RELAXED);
  });
  if (!good) return false;
  const auto counted = [&](Index kind, Index pair) {
    std::int64_t sum = 0;
    for (int slot = 0; slot < n_slots; ++slot) sum += tables[slot][kind * n_pairs + pair];
    return sum;
  };
  const Scratch<std::uint8_t> used(1, n_pairs);
  __builtin_memset(used[0], 0, static_cast<std::size_t>(n_pairs));
  for (int slot = 0; slot < n_slots; ++slot) {
    const std::uint8_t* const table = tables[slot];
    for (Index p = 0; p < n_pairs; ++p) used[0][p] |= (table[p] | table[n_pairs + p] | table[2 * n_pairs + p]) != 0;
  }
  Index n_cells = 0;
  for (Index p = 0; p < n_pairs; ++p) n_cells += used[0][p];
  const Cells out = new_cells(context, n_cells);
  Buffer<Index> starts(n_left + 1, n_cells);
  Index at = 0;
  for (Index i = 0; i < n_left; ++i) {
    starts[i] = at;
    for (Index j = 0; j < n && at < n_cells; ++j) {  // what is not used is overwritten by the next
      const Index pair = i * n + j;
      out.left[at] = i;
      out.right[at] = j;
      out.losses[at] = counted(0, pair);
      out.ties[at] = counted(1, pair);
      out.wins[at] = counted(2, pair);
      at += used[0][pair];
    }
  }
  std::int64_t* const counts[] = {out.losses, out.ties, out.wins};
  for (int slot = 0; slot < n_slots; ++slot) {
    for (std::uint32_t k = 1; k <= full[slot][0]; ++k) {
      const Index key = full[slot][k], pair = key % n_pairs, i = pair / n;
      counts[key / n_pairs][find(out.right, starts[i], starts[i + 1], pair % n)] += 255;
    }
  }
  return true;
}

// Two counting sorts, by right and then by left; equal pairs are then neighbours. A record is left, right and outcome.
bool count_sparse(const PairRows& rows, NewCells new_cells, void* context) {
  const Index n = rows.n_items * rows.n_groups, m = rows.n_rows;
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
    std::int64_t* const counts[] = {out.losses, out.ties, out.wins};
    ++counts[twice[k] & 3][at];
  }
  return true;
}

}  // namespace

bool count_pairs(const PairRows& rows, NewCells new_cells, void* context, const Exec& exec) {
  const Index n = rows.n_items, n_left = n * rows.n_groups;
  const bool fits =
      n > 0 && n < 4096 && n_left < (Index(1) << 24) && kKinds * n_left * n <= kMostTableBytes && rows.n_rows < Index(kBad);
  if (fits && n_left * n <= kPairsARow * rows.n_rows + 65536) return count_dense(rows, new_cells, context, exec);
  return count_sparse(rows, new_cells, context);
}

}  // namespace softmap::cpu
