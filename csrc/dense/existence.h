#pragma once
// Whether a likelihood of paired comparisons has one maximum, for a small problem.
//
// It has none where some direction of the parameters, other than a shift of all scores, never lowers the likelihood: a
// solution of linear inequalities in the changes of the scores s, of the advantage a and of the tie parameter t (t >= 0 where
// something tied: a tie is no more likely the smaller t is). With x = s_i - s_j + a for i shown first:
//
//   i won    x >= t
//   j won   -x >= t
//   a tie    |x| <= t
//
// Items with a prior do not move. For given a and t these are differences that are at least something: no solution exists
// exactly where the least values add up to more than 0 around some cycle.
#include <cstdint>

#include "dense/place.h"
#include "fit.h"

namespace softmap::dense {
namespace {

// What happened between items i < j, seen from i: in comparisons that showed i first, or j.
struct Happened {
  bool win[2], loss[2], tie[2];
};

class Recession {
 public:
  // s_i - s_j >= t times the first plus a times the second.
  struct Least {
    int t, a;
  };
  // Needs room_size(n_nodes) of these.
  SOFTMAP_HD static Index room_size(int n_nodes) { return Index(3) * n_nodes * n_nodes; }
  SOFTMAP_HD Recession(int n_nodes, Least* room) : n_(n_nodes), room_(room) {
    for (int k = 0; k < 2 * n_ * n_; ++k) room_[k] = {kFree, 0};
  }

  // Nodes may be equal.
  SOFTMAP_HD void add(int i, int j, const Happened& h) {
    SOFTMAP_UNROLL(2)
    for (int order = 0; order < 2; ++order) {
      const int side = order == 0 ? 1 : -1;  // x = s_i - s_j + side a
      if (h.win[order]) require(i, j, {1, -side});
      if (h.loss[order]) require(j, i, {1, side});
      if (h.tie[order]) {
        require(i, j, {-1, -side});
        require(j, i, {-1, side});
      }
    }
  }

  // With neither a nor t: whether all scores must move together.
  SOFTMAP_HD bool tied_together() const { return reaches_all(false) && reaches_all(true); }

  // With t = 0, and a rising (1) or falling (-1).
  SOFTMAP_HD bool moves_with_advantage(int a) const { return !violated(0, a).found; }

  // With t rising, and any a if that is free. The a that are left lie between low and high, quotients of small integers that
  // every cycle found narrows down.
  SOFTMAP_HD bool moves_with_ties(bool a_is_free) const {
    struct Bound {
      int above, below;
    } low{-1, 0}, high{1, 0}, at{0, 1};
    for (;;) {
      const Cycle c = violated(at.below, at.above);
      if (!c.found) return true;
      if (!a_is_free || c.sum.a == 0) return false;
      if (c.sum.a > 0) {
        at = high = {-c.sum.t, c.sum.a};
      } else {
        at = low = {c.sum.t, -c.sum.a};
      }
      if (low.below > 0 && high.below > 0 && low.above * high.below > high.above * low.below) return false;
    }
  }

 private:
  static constexpr int kFree = 1 << 20;
  SOFTMAP_HD static bool is_free(Least x) { return x.t == kFree; }
  struct Cycle {
    bool found;
    Least sum;
  };

  // Two bounds may differ in a: both are kept. Of those with the same a the larger t counts.
  SOFTMAP_HD void require(int i, int j, Least bound) {
    Least& to = least(bound.a > 0, i, j);
    if (is_free(to) || to.t < bound.t) to = bound;
  }

  SOFTMAP_HD bool reaches_all(bool backwards) const {
    std::uint64_t seen = 1, fresh = 1;
    while (fresh != 0) {
      const std::uint64_t before = seen;
      for (int i = 0; i < n_; ++i) {
        if (!(fresh >> i & 1)) continue;
        for (int j = 0; j < n_; ++j) {
          const int from = backwards ? j : i, to = backwards ? i : j;
          if (!is_free(least(0, from, to)) || !is_free(least(1, from, to))) seen |= std::uint64_t(1) << j;
        }
      }
      fresh = seen & ~before;
    }
    return seen == ~std::uint64_t(0) >> (64 - n_);
  }

  // A closed walk whose bounds add up to more than 0 (Floyd and Warshall).
  SOFTMAP_HD Cycle violated(int t, int a) const {
    const auto value = [&](Least x) { return is_free(x) ? -1e18 : double(x.t) * t + double(x.a) * a; };
    const auto path = [this](int i, int j) -> Least& { return least(2, i, j); };
    for (int i = 0; i < n_; ++i) {
      for (int j = 0; j < n_; ++j) path(i, j) = value(least(0, i, j)) >= value(least(1, i, j)) ? least(0, i, j) : least(1, i, j);
      if (value(path(i, i)) > 0) return {true, path(i, i)};
    }
    for (int via = 0; via < n_; ++via) {
      for (int i = 0; i < n_; ++i) {
        const Least first = path(i, via);
        if (is_free(first)) continue;
        for (int j = 0; j < n_; ++j) {
          const Least second = path(via, j);
          if (is_free(second)) continue;
          const Least sum{first.t + second.t, first.a + second.a};
          if (!(value(sum) > value(path(i, j)))) continue;
          path(i, j) = sum;
          if (i == j && value(sum) > 0) return {true, sum};
        }
      }
    }
    return {false, {0, 0}};
  }

  // The bounds with a falling (0) and rising (1), and paths (2).
  SOFTMAP_HD Least& least(int which, int i, int j) const { return room_[(which * n_ + i) * n_ + j]; }

  int n_;
  Least* room_;
};

}  // namespace
}  // namespace softmap::dense
