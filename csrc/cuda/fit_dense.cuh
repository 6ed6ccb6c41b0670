#pragma once
// The batched fit where nothing is left out: a problem a thread, all of whose numbers lie in memory of the device, beside those
// of the other threads of its warp.
#include "cuda/device.h"
#include "dense/newton.h"
#include "dense/prepare.h"
#include "dense/results.h"

namespace softmap::cuda {
namespace {

constexpr int kInterleaved = 32;  // threads of a warp

struct InMemory {
  using V = double;
  static constexpr int kLanes = 1, kStride = kInterleaved;
  static constexpr bool kGroups = false;
  // Distances from one pointer take fewer registers than pointers.
  struct Column {
    double* memory;
    int first;
    SOFTMAP_HD double& operator[](int i) const { return memory[first + i * kStride]; }
  };
  struct Table {
    double* memory;
    int first;
    SOFTMAP_HD double* operator+(int k) const { return memory + first + k; }
    SOFTMAP_HD double& operator[](int k) const { return memory[first + k]; }
  };
  struct Both {
    Table set;
    int size;
    SOFTMAP_HD double* operator[](int of) const { return set + of * size; }
  };
  template <int n>
  using Numbers = Table;
  template <int n>
  using Sets = Both;
  template <int n>
  using Values = Column;
  template <int n>
  using Resting = Column;
  SOFTMAP_HD static double load(const double* p) { return *p; }
  SOFTMAP_HD static void store(double x, double* p) { *p = x; }
};
using Tile = dense::Tile<InMemory>;
using State = dense::State<InMemory>;
using Lot = dense::Lot<InMemory>;
using Recession = dense::Recession;

struct Shape {
  int n;
  bool ordered, ties, border;
};

// What of a state is no column, kept in one while no kernel works on it.
constexpr int kScalars = 15;
template <class F>
SOFTMAP_HD void for_each_scalar(State& st, F&& f) {
  double grounded = st.grounded ? 1 : 0;
  auto& b = st.border;
  f(st.scale), f(st.largest), f(st.status), f(st.n_iter), f(st.gradient_max), f(grounded);
  f(b.value[0]), f(b.value[1]), f(b.estimated[0]), f(b.estimated[1]);
  f(b.i_aa), f(b.i_at), f(b.i_tt), f(b.share);
  st.grounded = grounded != 0;
}

// Deals out the memory of one thread, or counts it where there is none.
class Deal {
 public:
  SOFTMAP_HD explicit Deal(double* memory) : memory_(memory) {}
  SOFTMAP_HD InMemory::Column column(int n) {
    const int first = taken_ * kInterleaved;
    taken_ += n;
    return {memory_, first};
  }
  SOFTMAP_HD InMemory::Table table(int n) { return {memory_, column(n).first}; }
  SOFTMAP_HD InMemory::Both sets(int n, bool two) { return {table(two ? 2 * n : n), two ? n * kInterleaved : 0}; }
  SOFTMAP_HD int taken() const { return taken_; }

 private:
  double* memory_;
  int taken_ = 0;
};
// The memory of the problem in a slot, laid out.
struct Problem {
  Tile tile;
  State state;
  InMemory::Column scalars;
  double left;  // 1 as long as it is to be solved
  SOFTMAP_HD Problem(Deal& deal, const Shape& shape) {
    const int n = shape.n, pairs = n * (n - 1) / 2;
    tile.n = n;
    tile.ordered = shape.ordered;
    tile.ties = shape.ties;
    tile.mean = deal.table(n);
    tile.precision = deal.table(n);
    tile.win = deal.sets(pairs, shape.ordered);
    tile.loss = deal.sets(pairs, shape.ordered);
    tile.tie = deal.sets(shape.ties ? pairs : 0, shape.ordered);
    auto& st = state;
    st.grounded = false;
    for_each_scalar(st, [](double& x) { x = 0; });  // what is saved has to be set
    st.hessian = {deal.column(pairs), deal.column(n), deal.column(n)};
    st.path = deal.column(pairs);
    st.mean = deal.column(n), st.precision = deal.column(n);
    st.s = deal.column(n), st.base = deal.column(n), st.step = deal.column(n), st.newton = deal.column(n);
    st.g = deal.column(n), st.low = deal.column(n), st.lowest = deal.column(n);
    st.right = deal.column(n), st.right_low = deal.column(n);
    const int border = shape.border ? n : 0;
    auto& b = st.border;
    b.cross[0] = deal.column(border), b.reply[0] = deal.column(border);
    b.cross_low[0] = deal.column(border), b.cross_lowest[0] = deal.column(border);
    b.cross[1] = deal.column(border), b.reply[1] = deal.column(border);
    b.cross_low[1] = deal.column(border), b.cross_lowest[1] = deal.column(border);
    b.base = deal.column(2), b.step = deal.column(2), b.newton = deal.column(2);
    st.weight = deal.column(n);
    scalars = deal.column(kScalars);
  }
  SOFTMAP_HD void save() {
    int k = 0;
    for_each_scalar(state, [&](double& x) { scalars[k++] = x; });
    scalars[k] = left;
  }
  SOFTMAP_HD void restore() {
    int k = 0;
    for_each_scalar(state, [&](double& x) { x = scalars[k++]; });
    left = scalars[k];
  }
};
// The memory of many problems, one a slot: numbers that are dealt out, and the room of has_maximum.
struct Scratch {
  double* memory;
  Index dealt, room;
  Shape shape;

  explicit Scratch(const Shape& of) : memory(nullptr), room(Recession::room_size(of.n)), shape(of) {
    static_assert(sizeof(Recession::Least) == sizeof(double));
    Deal deal(nullptr);
    const Problem counted(deal, shape);
    dealt = deal.taken();
  }
  Index size() const { return dealt + room; }
  SOFTMAP_HD double* of_warp(int slot) const { return memory + slot / kInterleaved * kInterleaved * (dealt + room); }
  SOFTMAP_HD Problem problem(int slot) const {
    Deal deal(of_warp(slot) + slot % kInterleaved);
    return Problem(deal, shape);
  }
  SOFTMAP_HD Recession::Least* room_of(int slot) const {
    return reinterpret_cast<Recession::Least*>(of_warp(slot) + kInterleaved * dealt + slot % kInterleaved * room);
  }
};

}  // namespace
}  // namespace softmap::cuda
