#include "graph.h"

#include "cpu/neighbours.h"

namespace softmap::cpu {

void connected(const Edges& edges, std::int64_t* label) {
  for (Index i = 0; i < edges.n_nodes; ++i) label[i] = i;
  const auto root = [&](Index i) {
    while (label[i] != i) i = label[i] = label[label[i]];
    return i;
  };
  for (Index e = 0; e < edges.n_edges; ++e) {
    const Index a = root(edges.from[e]), b = root(edges.to[e]);
    (a < b ? label[b] : label[a]) = a < b ? a : b;  // a root is the smallest of its nodes
  }
  for (Index i = 0; i < edges.n_nodes; ++i) label[i] = label[label[i]];  // that of a smaller node is final
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

}  // namespace softmap::cpu
