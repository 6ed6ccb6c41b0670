#pragma once
// Counting paired comparisons: one declaration for every backend.
#include <cstdint>

#include "views.h"

namespace softmap {

// One value a row, or one for all rows (step 0). With `places` the column holds codes, and a row's value is places[code].
enum class ColumnType : std::int8_t { kInt8, kInt32, kInt64, kDouble };
struct PairColumn {
  ColumnType type;
  const void* data;
  Index step;
  const std::int32_t* places;
  Index n_places;
};

// left, right: items 0 .. n_items - 1, integers. outcome: 1 where left won, 0 where right won, 0.5 for a tie; its places are
// twice that. group: 0 .. n_groups - 1, not read where that is 1.
struct PairRows {
  PairColumn left, right, outcome, group;
  Index n_rows, n_items, n_groups;
};

// One entry per group and ordered pair that occurs, sorted by group, left, right; left is group * n_items + item.
struct Cells {
  std::int64_t *left, *right, *wins, *losses, *ties;
};
using NewCells = Cells (*)(void* context, Index n_cells);

inline constexpr Index kMostCountedItems = Index(1) << 30;

namespace SOFTMAP_BACKEND {

struct Exec;

// Counts the rows and writes what new_cells, called once, gives. Returns false, without a call, where a row is out of range,
// compares an item with itself or has another outcome. Throws std::bad_alloc.
bool count_pairs(const PairRows& rows, NewCells new_cells, void* context, const Exec& exec);

}  // namespace SOFTMAP_BACKEND
}  // namespace softmap
