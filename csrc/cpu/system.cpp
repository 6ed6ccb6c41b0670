#include "cpu/conjugate_gradients.h"
#include "cpu/edge_products.h"
#include "cpu/neighbours.h"
#include "cpu/parallel.h"
#include "graph.h"

namespace softmap::cpu {
namespace {

constexpr Node kFewNeighbours = 8;  // nodes with at most so many are eliminated,
constexpr Index kFewNodes = 200;    // and all where so few are left
constexpr int kTogether = 8;        // systems that are solved together
constexpr double kRough = 1e-6;     // an rtol for which directions of 24 bits will do

// Which edge joins two nodes: an open hash table.
class EdgeTable {
 public:
  explicit EdgeTable(Index size = 64) : keys_(size, 0), edges_(size, 0) {}
  // The place of the edge i j, which is `fresh` from now on where there was none.
  Node find(Node i, Node j, Node fresh) {
    if (2 * used_ >= keys_.size()) grow();
    const std::uint64_t low = static_cast<std::uint64_t>(i < j ? i : j), high = static_cast<std::uint64_t>(i < j ? j : i);
    const std::uint64_t key = (low << 32 | high) + 1;
    Index at = place(key);
    while (keys_[at] != 0 && keys_[at] != key) at = (at + 1) & (keys_.size() - 1);
    if (keys_[at] == 0) {
      keys_[at] = key;
      edges_[at] = fresh;
      ++used_;
    }
    return edges_[at];
  }

 private:
  Index place(std::uint64_t key) const {
    key *= 0x9e3779b97f4a7c15u;
    return static_cast<Index>(key >> 20) & (keys_.size() - 1);
  }
  void grow() {
    EdgeTable larger(2 * keys_.size());
    for (Index k = 0; k < keys_.size(); ++k) {
      if (keys_[k] == 0) continue;
      Index at = larger.place(keys_[k]);
      while (larger.keys_[at] != 0) at = (at + 1) & (larger.keys_.size() - 1);
      larger.keys_[at] = keys_[k];
      larger.edges_[at] = edges_[k];
    }
    larger.used_ = used_;
    keys_.swap(larger.keys_);
    edges_.swap(larger.edges_);
  }
  Buffer<std::uint64_t> keys_;
  Buffer<Node> edges_;
  Index used_ = 0;
};

}  // namespace

struct System {
  Index n_nodes, n_given;   // nodes; edges as given
  Buffer<Node> joined;      // which edge between two different nodes a given edge is part of
  Index n_joined;           // number of these
  Buffer<Node> from, to;    // ends of these edges, those that elimination makes included
  Buffer<Node> eliminated;  // nodes, in order
  Buffer<Index> starts;     // neighbours of the k-th of them when its turn comes: [starts[k], starts[k + 1])
  Buffer<Node> neighbour, edge;
  Buffer<Node> pair_edge;  // for each two neighbours the edge between them
  Buffer<Node> core;       // the nodes that remain
  Neighbours inside;       // and their neighbours among each other, by number within the core
  Buffer<double> weight;   // of the edges; of those to later nodes over the pivot
  Buffer<double> own;      // the diagonal; of eliminated nodes over the pivot
  Buffer<double> inverse;  // of the pivots, by node; within the core of the diagonal of the matrix
  Buffer<double> inner;    // weights in the order of `inside`
};

namespace {

// Joins given edges between the same two nodes.
void join_edges(System& s, const Edges& given) {
  // two counting sorts, by the larger and by the smaller node
  const auto smaller = [&](Index e) { return given.from[e] < given.to[e] ? given.from[e] : given.to[e]; };
  const auto larger = [&](Index e) { return given.from[e] < given.to[e] ? given.to[e] : given.from[e]; };
  Buffer<Node> once(given.n_edges), twice(given.n_edges);
  const auto sort = [&](auto key, auto from, Buffer<Node>& to) {
    Buffer<Index> next(given.n_nodes + 1, 0);
    for (Index e = 0; e < given.n_edges; ++e) ++next[key(e) + 1];
    for (Index i = 0; i < given.n_nodes; ++i) next[i + 1] += next[i];
    for (Index k = 0; k < given.n_edges; ++k) {
      const Index e = from(k);
      to[next[key(e)]++] = static_cast<Node>(e);
    }
  };
  sort(larger, [](Index k) { return k; }, once);
  sort(smaller, [&](Index k) { return Index(once[k]); }, twice);
  for (Index k = 0; k < given.n_edges; ++k) {
    const Index e = twice[k];
    const Node a = static_cast<Node>(smaller(e)), b = static_cast<Node>(larger(e));
    if (s.from.size() == 0 || s.from.last() != a || s.to.last() != b) {
      s.from.push(a);
      s.to.push(b);
    }
    s.joined[e] = static_cast<Node>(s.from.size() - 1);
  }
  s.n_joined = s.from.size();
}

// Nodes by their number of neighbours, the fewest first. Entries that are no longer true are skipped.
class Queue {
 public:
  explicit Queue(Index n) : state_(n, -1) {}
  void put(Node i, Node degree) {
    if (degree >= kFewNodes || state_[i] == degree) return;
    state_[i] = degree;
    lists_[degree].push(i);
  }
  void remove(Node i) { state_[i] = -1; }
  // The next node with at most `most` neighbours, or -1.
  Node take(Node most) {
    for (Node d = 0; d <= most && d < kFewNodes; ++d) {
      while (lists_[d].size() > 0) {
        const Node i = lists_[d].pop();
        if (state_[i] == d) return i;
      }
    }
    return -1;
  }

 private:
  Buffer<Node> state_;  // number of neighbours, -1: not waiting
  Buffer<Node> lists_[kFewNodes];
};

// The edge between i and j, or -1. Edges are sorted, and so are the neighbours of each node.
Node edge_between(const Neighbours& sorted, Node i, Node j) {
  if (sorted.starts[i + 1] - sorted.starts[i] > sorted.starts[j + 1] - sorted.starts[j]) return edge_between(sorted, j, i);
  Index low = sorted.starts[i], high = sorted.starts[i + 1];
  while (low < high) {
    const Index middle = low + (high - low) / 2;
    if (sorted.at[middle] < j) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low < sorted.starts[i + 1] && sorted.at[low] == j ? sorted.edge[low] : -1;
}

// Chooses what is eliminated and writes down which edges that makes.
void eliminate(System& s) {
  const Index n = s.n_nodes, n_first = s.from.size();
  const auto first = neighbours_of(n, n_first, s.from.data(), s.to.data(), true);
  Buffer<Node> degree(n), newest(n, -1), older;  // edges made later, a list for each end: 2 (edge - n_first) + end
  Buffer<std::uint8_t> gone(n, 0);
  Queue queue(n);
  Index few = 0;
  for (Index i = n - 1; i >= 0; --i) {
    degree[i] = static_cast<Node>(first.starts[i + 1] - first.starts[i]);
    few += degree[i] <= kFewNeighbours;
    queue.put(static_cast<Node>(i), degree[i]);
  }
  s.starts.push(0);
  if (few == 0 && n > kFewNodes) return;
  EdgeTable later;
  const Index budget = 8 * n_first + kFewNodes * kFewNodes * kFewNodes;
  for (Index left = n; left > 0 && s.pair_edge.size() < budget; --left) {
    const Node node = queue.take(left > kFewNodes ? kFewNeighbours : Node(kFewNodes));
    if (node < 0) break;
    gone[node] = 1;
    queue.remove(node);
    s.eliminated.push(node);
    const Index start = s.neighbour.size();
    const auto meet = [&](Node other, Node e) {
      if (gone[other]) return;
      s.neighbour.push(other);
      s.edge.push(e);
    };
    for (Index k = first.starts[node]; k < first.starts[node + 1]; ++k) meet(first.at[k], first.edge[k]);
    for (Node k = newest[node]; k >= 0; k = older[k]) {
      const Node e = static_cast<Node>(n_first + k / 2);
      meet(s.from[e] == node ? s.to[e] : s.from[e], e);
    }
    const Index end = s.neighbour.size();
    s.starts.push(end);
    for (Index a = start; a < end; ++a) --degree[s.neighbour[a]];
    for (Index a = start; a < end; ++a) {
      for (Index b = a + 1; b < end; ++b) {
        const Node i = s.neighbour[a], j = s.neighbour[b], fresh = static_cast<Node>(s.from.size());
        const Node known = edge_between(first, i, j), e = known >= 0 ? known : later.find(i, j, fresh);
        s.pair_edge.push(e);
        if (e != fresh) continue;
        s.from.push(i);
        s.to.push(j);
        older.push(newest[i]);
        newest[i] = static_cast<Node>(older.size() - 1);
        older.push(newest[j]);
        newest[j] = static_cast<Node>(older.size() - 1);
        ++degree[i];
        ++degree[j];
      }
    }
    for (Index a = start; a < end; ++a) queue.put(s.neighbour[a], degree[s.neighbour[a]]);
  }
}

void find_core(System& s) {
  Buffer<Node> place(s.n_nodes, 0);
  for (Index k = 0; k < s.eliminated.size(); ++k) place[s.eliminated[k]] = -1;
  for (Index i = 0; i < s.n_nodes; ++i) {
    if (place[i] < 0) continue;
    place[i] = static_cast<Node>(s.core.size());
    s.core.push(static_cast<Node>(i));
  }
  Buffer<Node> from, to, edge;
  for (Index e = 0; e < s.from.size(); ++e) {
    const Node a = place[s.from[e]], b = place[s.to[e]];
    if (a < 0 || b < 0) continue;
    from.push(a);
    to.push(b);
    edge.push(static_cast<Node>(e));
  }
  s.inside = neighbours_of(s.core.size(), from.size(), from.data(), to.data(), true);
  for (Index k = 0; k < s.inside.edge.size(); ++k) s.inside.edge[k] = edge[s.inside.edge[k]];
}

}  // namespace

System* make_system(const Edges& edges) {
  auto* const s = new System{
      edges.n_nodes, edges.n_edges, Buffer<Node>(edges.n_edges), 0, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}, {}};
  try {
    join_edges(*s, edges);
    eliminate(*s);
    find_core(*s);
    s->weight = Buffer<double>(s->from.size());
    s->own = Buffer<double>(s->n_nodes);
    s->inverse = Buffer<double>(s->n_nodes);
    s->inner = Buffer<double>(s->inside.at.size());
  } catch (...) {
    delete s;
    throw;
  }
  return s;
}
void free_system(System* system) { delete system; }

// In the form of edge weights and diagonal, never as a matrix, as laplacian.h: no subtraction, no cancellation.
void factor_system(System& s, const double* weights, const double* diagonal) {
  for (Index e = 0; e < s.weight.size(); ++e) s.weight[e] = 0.;
  for (Index e = 0; e < s.n_given; ++e) s.weight[s.joined[e]] += weights[e];
  for (Index i = 0; i < s.n_nodes; ++i) s.own[i] = diagonal[i];
  double row[kFewNodes];
  const Node* pair = s.pair_edge.data();
  for (Index k = 0; k < s.eliminated.size(); ++k) {
    const Node node = s.eliminated[k];
    const Index start = s.starts[k];
    const int count = static_cast<int>(s.starts[k + 1] - start);
    double pivot = s.own[node];
    for (int a = 0; a < count; ++a) pivot += row[a] = s.weight[s.edge[start + a]];
    const double inverse = pivot > 0. ? 1. / pivot : 0.;
    for (int a = 0; a < count; ++a) {
      const double ratio = row[a] * inverse;
      s.weight[s.edge[start + a]] = ratio;
      s.own[s.neighbour[start + a]] += s.own[node] * ratio;
      for (int b = a + 1; b < count; ++b) s.weight[*pair++] += ratio * row[b];
    }
    s.inverse[node] = inverse;
  }
  for (Index i = 0; i < s.core.size(); ++i) {
    double sum = 0.;
    for (Index k = s.inside.starts[i]; k < s.inside.starts[i + 1]; ++k) sum += s.inner[k] = s.weight[s.inside.edge[k]];
    double& own = s.own[s.core[i]];
    own += 1e-13 * sum;  // a group of nodes without a diagonal is not singular then
    s.inverse[s.core[i]] = own + sum > 0. ? 1. / (own + sum) : 0.;
  }
}

namespace {

// The rows from `first` on, `width` numbers a node; there are n_rows, and zeros behind.
template <int width>
void copy_in(Index n, const double* rows, Index first, Index n_rows, double* x) {
  const Index count = n_rows - first < width ? n_rows - first : width;
  for (Index i = 0; i < n; ++i) {
    for (Index k = 0; k < width; ++k) x[width * i + k] = k < count ? rows[(first + k) * n + i] : 0.;
  }
}
template <int width>
void copy_out(Index n, const double* x, Index first, Index n_rows, double* rows) {
  const Index count = n_rows - first < width ? n_rows - first : width;
  for (Index i = 0; i < n; ++i) {
    for (Index k = 0; k < count; ++k) rows[(first + k) * n + i] = x[width * i + k];
  }
}

// x = H^-1 x for `width` systems, x having `width` numbers a node.
template <class Direction, int width>
int solve_block(const System& s, double* x, double rtol, int most, ConjugateGradients<Direction, width>& iteration) {
  for (Index e = 0; e < s.eliminated.size(); ++e) {
    double* const mine = &x[width * Index(s.eliminated[e])];
    for (Index a = s.starts[e]; a < s.starts[e + 1]; ++a) {
      double* const other = &x[width * Index(s.neighbour[a])];
      for (int k = 0; k < width; ++k) other[k] += s.weight[s.edge[a]] * mine[k];
    }
    for (int k = 0; k < width; ++k) mine[k] *= s.inverse[s.eliminated[e]];
  }
  const int steps = s.core.size() > 0 ? iteration.run(x, rtol, most) : 0;
  for (Index e = s.eliminated.size() - 1; e >= 0; --e) {
    double* const mine = &x[width * Index(s.eliminated[e])];
    for (Index a = s.starts[e]; a < s.starts[e + 1]; ++a) {
      const double* const other = &x[width * Index(s.neighbour[a])];
      for (int k = 0; k < width; ++k) mine[k] += s.weight[s.edge[a]] * other[k];
    }
  }
  return steps;
}

// `width` systems at a time, the last ones together with zeros.
template <class Direction, int width>
int solve_blocks(const System& s, const Solve& solve, const Exec& exec) {
  const Inside inside{s.core, s.inside, s.inner.data(), s.own.data(), s.inverse.data()};
  ConjugateGradients<Direction, width> iteration(inside, exec);
  Buffer<double> x(width * s.n_nodes);
  int worst = 0;
  for (Index first = 0; first < solve.n_systems; first += width) {
    copy_in<width>(s.n_nodes, solve.g, first, solve.n_systems, x.data());
    const int steps = solve_block(s, x.data(), solve.rtol, solve.most_steps, iteration);
    copy_out<width>(s.n_nodes, x.data(), first, solve.n_systems, solve.x);
    worst = steps < 0 || worst < 0 ? -1 : steps > worst ? steps : worst;
  }
  return worst;
}

}  // namespace

int solve_system(const System& s, const Solve& solve, const Exec& exec) {
  if (solve.n_systems > kTogether / 2 && solve.rtol >= kRough) {
    const int steps = solve_blocks<float, kTogether>(s, solve, exec);
    if (steps >= 0) return steps;
  }
  return solve_blocks<double, 1>(s, solve, exec);
}

namespace {

Joined joined_edges(const System& s) { return {s.n_nodes, s.n_joined, s.from.data(), s.to.data()}; }
Buffer<double> joined_weights(const System& s, const double* weights) {
  Buffer<double> r(s.n_joined, 0.);
  for (Index e = 0; e < s.n_given; ++e) r[s.joined[e]] += weights[e];
  return r;
}

}  // namespace

void times_system(const System& s, const Form& h, const double* x, double* y, Index n_rows, const Exec& exec) {
  multiply_rows(joined_edges(s), joined_weights(s, h.weights), h.diagonal, x, y, n_rows, exec);
}

void expand_system(const System& s, const Form& h, const Form& m, const Expansion& x) {
  Series series(joined_edges(s), joined_weights(s, h.weights), h.diagonal, joined_weights(s, m.weights), m.diagonal);
  series.find_diagonal(x.diagonal);
  for (Index first = 0; first < x.n_rows; first += Series::width) {
    const Index count = x.n_rows - first < Series::width ? x.n_rows - first : Series::width;
    series.multiply(x.z + first * s.n_nodes, x.az + first * s.n_nodes, count);
  }
}

}  // namespace softmap::cpu
