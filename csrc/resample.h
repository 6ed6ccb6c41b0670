#pragma once
// The bootstrap: counts of resampled data sets, and the fits of all of them at once. One declaration for every backend.
#include <cstdint>

#include "pairwise.h"
#include "views.h"

namespace softmap {

// `total` rows are drawn with replacement from n_categories categories, of which category c has counts[c] >= 0 rows: exactly the
// multinomial distribution, up to probabilities of 2^-52. Data set k depends on key and k alone, not on what is drawn beside it.
// Categories without rows do not matter but for their number. 0 < total < 2^31.
struct Draws {
  const double* counts;
  Index n_categories, total;
  std::uint64_t key;
  Index first, n_sets;  // data sets first, first + 1, ...
};

// What is drawn are units with weighted rows of several categories: unit[e] has amount[e] of category[e], sorted by category.
struct Weighing {
  const std::int32_t* times;  // (units, n_sets)
  const std::int64_t *unit, *category;
  const double* amount;
  Index n_entries, n_sets;
};

// The objective of a fit for other counts of the same cells, sorted by left. theta holds n_items scores less the mean of their
// prior, then the advantage and the parameter of the tie model as far as they are estimated.
struct Refits {
  Index n_items, n_cells;
  const std::int64_t *left, *right;
  LinkKind link;
  bool with_ties;    // a tie model, else
  double tie_share;  // a tie is so much of a win and of a loss
  TieModel model;    // t where it is fixed
  double advantage;  // where it is fixed
  bool advantage_estimated, tie_estimated;
  double precision;       // of the prior
  const double* start;    // theta
  const double* inverse;  // (size, size), about the inverse of minus the Hessian; 0 in rows and columns of scores that are held
  Index n_sets;

  Index size() const { return n_items + advantage_estimated + tie_estimated; }
};

namespace SOFTMAP_BACKEND {

struct Exec;

// out[c * n_sets + k]: rows of category c in data set first + k. Throws std::bad_alloc.
void draw_counts(const Draws& draws, std::int32_t* out, const Exec& exec);

// out[c * n_sets + k], zeros on entry: the amounts of category c in data set k.
void weigh_draws(const Weighing& in, double* out, const Exec& exec);

// counts: wins, losses and ties, (3, n_cells, n_sets). Newton's method from `start` for each data set; theta (n_sets, size).
// Where it does not settle quickly done[k] is 0: leave those to a more careful method. Throws std::bad_alloc.
template <class T>
void refit(const Refits& in, const T* counts, double* theta, std::uint8_t* done, const Exec& exec);

}  // namespace SOFTMAP_BACKEND
}  // namespace softmap
