#include "graph.h"

#include "cpu/neighbours.h"

namespace softmap::cpu {

namespace {

// Sets of nodes, each known by its smallest one.
template <class Label>
class Sets {
 public:
  Sets(Label* parent, Index n) : parent_(parent), n_(n), n_sets_(n) {
    for (Index i = 0; i < n; ++i) parent_[i] = static_cast<Label>(i);
  }
  Index root(Index i) {
    while (parent_[i] != i) i = parent_[i] = parent_[parent_[i]];
    return i;
  }
  void join(Index i, Index j) {
    const Index a = root(i), b = root(j);
    n_sets_ -= a != b;
    (a < b ? parent_[b] : parent_[a]) = static_cast<Label>(a < b ? a : b);
  }
  bool is_one() const { return n_sets_ == 1; }
  void finish() {
    for (Index i = 0; i < n_; ++i) parent_[i] = parent_[parent_[i]];  // that of a smaller node is final
  }

 private:
  Label* parent_;
  Index n_, n_sets_;
};

}  // namespace

void connected(const Edges& edges, std::int64_t* label) {
  Sets<std::int64_t> sets(label, edges.n_nodes);
  for (Index e = 0; e < edges.n_edges; ++e) sets.join(edges.from[e], edges.to[e]);
  sets.finish();
}

// Tarjan 1972, without recursion.
void strong_components(const Edges& edges, std::int64_t* label) {
  const Index n = edges.n_nodes;
  const auto out = neighbours_of(n, edges.n_edges, edges.from, edges.to, false);
  Buffer<Index> next(n, 0);
  Buffer<Node> number(n, 0), low(n, 0);  // 0: not seen
  Buffer<Node> path, open;
  for (Index i = 0; i < n; ++i) {
    next[i] = out.starts[i];
    label[i] = -1;  // not finished
  }
  Node seen = 0;
  std::int64_t n_labels = 0;
  const auto enter = [&](Node i) {
    number[i] = low[i] = ++seen;
    path.push(i);
    open.push(i);
  };
  const auto lower = [&](Node i, Node bound) { low[i] = bound < low[i] ? bound : low[i]; };
  for (Index root = 0; root < n; ++root) {
    if (number[root] == 0) enter(static_cast<Node>(root));
    while (path.size() > 0) {
      const Node i = path.last();
      if (next[i] < out.starts[i + 1]) {
        const Node j = out.at[next[i]++];
        if (number[j] == 0) {
          enter(j);
        } else if (label[j] < 0) {
          lower(i, low[j]);
        }
        continue;
      }
      path.pop();
      if (path.size() > 0) lower(path.last(), low[i]);
      if (low[i] != number[i]) continue;
      for (Node member = -1; member != i;) {
        member = open.pop();
        label[member] = n_labels;
      }
      ++n_labels;
    }
  }
}

namespace {

// An edge on a cycle of the last predecessors, or -1. edge: by which each node got its number, or -1.
Index on_cycle(const Edges& edges, const Buffer<Index>& edge) {
  Buffer<Node> seen(edges.n_nodes, -1);  // in the walk from which node
  for (Index start = 0; start < edges.n_nodes; ++start) {
    Index i = start;
    while (seen[i] < 0 && edge[i] >= 0) {
      seen[i] = static_cast<Node>(start);
      i = edges.from[edge[i]];
    }
    if (seen[i] == start && edge[i] >= 0) return edge[i];
    seen[i] = static_cast<Node>(start);
  }
  return -1;
}

}  // namespace

// Shortest paths by a queue, from those of a tree: on a chain they are right at once. A cycle among the last predecessors is one
// that adds up to more than 0 (Tarjan, Data structures and network algorithms, 1983, chapter 7); it is looked for every n
// changes.
bool movement(const Edges& edges, const std::int64_t* least, std::int64_t* v, void (*take)(void*, Index), void* context) {
  const Index n = edges.n_nodes;
  const auto out = neighbours_of(n, edges.n_edges, edges.from, edges.to, false);
  Buffer<Index> edge(n, -1);
  Buffer<Node> queue(n);  // a ring
  Buffer<std::uint8_t> waiting(n, 0);
  Index first = 0, count = 0;
  const auto enter = [&](Index i) {
    waiting[i] = 1;
    queue[(first + count++) % n] = static_cast<Node>(i);
  };
  for (Index root = 0, next = 0; root < n; ++root) {
    if (waiting[root]) continue;
    v[root] = 0;
    for (enter(root); next < count; ++next) {
      const Index i = queue[next];
      for (Index k = out.starts[i]; k < out.starts[i + 1]; ++k) {
        const Index j = out.at[k];
        if (waiting[j]) continue;
        edge[j] = out.edge[k];
        v[j] = v[i] - least[edge[j]];
        enter(j);
      }
    }
  }
  for (Index changes = 0; count > 0;) {
    const Index i = queue[first];
    first = (first + 1) % n;
    --count;
    waiting[i] = 0;
    for (Index k = out.starts[i]; k < out.starts[i + 1]; ++k) {
      const Index j = out.at[k], e = out.edge[k];
      if (v[i] - least[e] >= v[j]) continue;
      v[j] = v[i] - least[e];
      edge[j] = e;
      ++changes;
      if (!waiting[j]) enter(j);
    }
    if (changes < n && count > 0) continue;
    changes = 0;
    const Index start = on_cycle(edges, edge);
    if (start < 0) continue;
    Index e = start;
    do {
      take(context, e);
      e = edge[edges.from[e]];
    } while (e != start);
    return false;
  }
  return true;
}

template <class T>
void survey(const Pairs<T>& pairs, bool ties_count, const Survey<T>& out, TakeEdge take, void* context) {
  struct Tally {
    T wins, losses, ties;
  };
  const Index n = pairs.n_items;
  Buffer<Tally> tallies(n, Tally{0, 0, 0});
  Buffer<Node> met(n), equal(n);
  Sets<Node> groups(met.size() > 0 ? &met[0] : nullptr, n), mutual(equal.size() > 0 ? &equal[0] : nullptr, n);
  const auto won = [&](Index e) { return pairs.wins[e] > 0 || (ties_count && pairs.ties[e] > 0); };
  const auto lost = [&](Index e) { return pairs.losses[e] > 0 || (ties_count && pairs.ties[e] > 0); };
  constexpr Index kAhead = 24;
  Tally mine{0, 0, 0};
  for (Index e = 0; e < pairs.n_pairs; ++e) {
    const Index i = pairs.left[e], j = pairs.right[e];
    if (e + kAhead < pairs.n_pairs) {
      const Index soon = pairs.right[e + kAhead];
      __builtin_prefetch(&tallies[soon], 1);
      __builtin_prefetch(&met[soon]);
      __builtin_prefetch(&equal[soon]);
    }
    const T wins = pairs.wins[e], losses = pairs.losses[e], ties = pairs.ties[e];
    Tally& theirs = tallies[j];
    theirs = {theirs.wins + losses, theirs.losses + wins, theirs.ties + ties};
    mine = {mine.wins + wins, mine.losses + losses, mine.ties + ties};
    if (e + 1 == pairs.n_pairs || pairs.left[e + 1] != i) {  // pairs are mostly sorted by left
      Tally& all = tallies[i];
      all = {all.wins + mine.wins, all.losses + mine.losses, all.ties + mine.ties};
      mine = {0, 0, 0};
    }
    if (!groups.is_one() && (won(e) || lost(e))) groups.join(i, j);
    if (!mutual.is_one() && won(e) && lost(e)) mutual.join(i, j);
  }
  groups.finish();
  mutual.finish();
  Buffer<std::int64_t> winner, loser, strong(n);
  for (Index e = 0; e < pairs.n_pairs && !mutual.is_one(); ++e) {
    const Node i = equal[pairs.left[e]], j = equal[pairs.right[e]];
    if (i == j || won(e) == lost(e)) continue;
    winner.push(won(e) ? i : j);
    loser.push(won(e) ? j : i);
  }
  strong_components({n, winner.size(), winner.data(), loser.data()}, n > 0 ? &strong[0] : nullptr);
  for (Index k = 0; k < winner.size(); ++k) {
    if (strong[winner[k]] != strong[loser[k]]) take(context, winner[k], loser[k]);
  }
  for (Index i = 0; i < n; ++i) {
    out.wins[i] = tallies[i].wins;
    out.losses[i] = tallies[i].losses;
    out.ties[i] = tallies[i].ties;
    out.connected[i] = met[i];
    out.strong[i] = strong[equal[i]];
  }
}

template void survey(const Pairs<std::int64_t>&, bool, const Survey<std::int64_t>&, TakeEdge, void*);
template void survey(const Pairs<double>&, bool, const Survey<double>&, TakeEdge, void*);

}  // namespace softmap::cpu
