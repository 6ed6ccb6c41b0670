#pragma once
// The graph of who met whom: its connected parts, and linear systems on it. One declaration for every backend.
#include <cstdint>

#include "pairwise.h"
#include "views.h"

namespace softmap {

// Edges between nodes 0 .. n_nodes - 1, n_nodes < 2^31; any number between two nodes.
struct Edges {
  Index n_nodes, n_edges;
  const std::int64_t *from, *to;
};

// Ordered pairs of items 0 .. n_items - 1 with how often left won, right won, nobody won.
template <class T>
struct Pairs {
  Index n_items, n_pairs;
  const std::int64_t *left, *right;
  const T *wins, *losses, *ties;
};

// Of each item: its wins, losses and ties, the smallest item that it is connected with, and the number of its strongly connected
// component. A pair goes from winner to loser, and where ties count, a tie both ways.
template <class T>
struct Survey {
  T *wins, *losses, *ties;
  std::int64_t *connected, *strong;
};
// Calls take(context, winner, loser) for pairs of items, at least one for any two different strongly connected components
// between which somebody won; the items stand for the components.
using TakeEdge = void (*)(void* context, std::int64_t winner, std::int64_t loser);

// The objective of a fit of pairs without a tie model, at scores less the mean of their prior. Pairs are sorted by left, then
// right; wins, losses and ties are whole counts or else weights, and tie_share of the ties is a win, and as much a loss. group:
// number of each item's connected group; floating: groups in which no score is held.
struct PairProblem {
  Index n_items, n_pairs, n_groups;
  const std::int64_t *left, *right;
  const std::int64_t* counts[3];
  const double* weights[3];
  double tie_share;
  LinkKind link;
  double advantage, precision;  // of the first item; of the prior
  const std::uint8_t* free;     // scores that are not held
  const std::int64_t* group;
  const std::uint8_t* floating;
  double* gradient;  // out: of the objective at the end
};
struct NewtonOptions {
  double mean, tol;  // no entry of the last step exceeds tol max(1, the largest mean + score)
  int most_steps;
};
struct NewtonResult {
  int n_steps;
  bool converged;
  double log_likelihood;
};

namespace SOFTMAP_BACKEND {

struct Exec;

// Newton's method with conjugate gradients, preconditioned by the diagonal: for graphs in which everybody is a few steps from
// everybody else. Not converged where that needs too many steps. theta: start and result. Throws std::bad_alloc.
NewtonResult newton_pairs(const PairProblem& problem, const NewtonOptions& options, double* theta, const Exec& exec);

// label[i] is the smallest node that is connected with i.
void connected(const Edges& edges, std::int64_t* label);

// label[i] numbers the strongly connected component of i, from 0; an edge between two goes from the higher to the lower.
void strong_components(const Edges& edges, std::int64_t* label);

// Looks for whole numbers v with v[from] - v[to] >= least on every edge; returns whether there are any. Otherwise calls
// take(context, edge) for the edges of a cycle whose `least` add up to more than 0. Throws std::bad_alloc.
bool movement(const Edges& edges, const std::int64_t* least, std::int64_t* v, void (*take)(void*, Index), void* context);

// One walk over the pairs: those that won from each other are of one component at once, so that hardly anything is left for the
// search of the others. Throws std::bad_alloc.
template <class T>
void survey(const Pairs<T>& pairs, bool ties_count, const Survey<T>& out, TakeEdge take, void* context);

// For edges between different nodes: systems H x = g with H_ij = -(sum of the weights of the edges i j) for i != j, H_ii =
// diagonal_i + sum_j |H_ij|; weights and diagonal >= 0. Items with few neighbours are eliminated, in an order that is found once;
// what remains is solved by conjugate gradients. Throws std::bad_alloc.
struct System;
System* make_system(const Edges& edges);
void free_system(System* system);
void factor_system(System& system, const double* weights, const double* diagonal);

// For each of n_systems right-hand sides of n_nodes numbers. A group of nodes without a diagonal has a solution up to a shift
// where its g add up to 0; some such solution is returned. Iterations stop where the residual is rtol of the first one, in the
// norm of the preconditioner. Returns how many were needed at most, or -1 where most_steps did not suffice.
struct Solve {
  const double* g;
  double* x;
  Index n_systems;
  double rtol;
  int most_steps;
};
int solve_system(const System& system, const Solve& solve, const Exec& exec);

// Weights of the edges and diagonal, as above.
struct Form {
  const double *weights, *diagonal;
};
// y = H x for each of n_rows rows. Throws std::bad_alloc.
void times_system(const System& system, const Form& h, const double* x, double* y, Index n_rows, const Exec& exec);

// What is near to H^-1 M H^-1 with a diagonal that is known: A, the terms of its series in H and M beside their diagonals, to the
// second. az = A z for each of n_rows rows. Throws std::bad_alloc.
struct Expansion {
  const double* z;
  double *az, *diagonal;
  Index n_rows;
};
void expand_system(const System& system, const Form& h, const Form& m, const Expansion& expansion);

}  // namespace SOFTMAP_BACKEND
}  // namespace softmap
