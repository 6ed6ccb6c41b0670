#pragma once
// The softmax family: one declaration for every backend.
#include "views.h"

namespace softmap {

// A closed set of columns, in groups whose probabilities add up: group k owns tokens[start[k] .. start[k + 1]).
struct Groups {
  const Index* tokens;
  const Index* start;
  Index n_groups;
};

namespace SOFTMAP_BACKEND {

struct Exec;  // how to run: number of threads (cpu), stream (cuda)

// Along each row, with z = x / temperature: out = exp(z) / sum exp(z). A temperature that is not finite and positive makes
// its row NaN. out may be x itself.
template <class T>
void softmax(const Rows<const T>& x, PerRow<T> temperature, const Rows<T>& out, const Exec& exec);

// out = z - log sum exp(z).
template <class T>
void log_softmax(const Rows<const T>& x, PerRow<T> temperature, const Rows<T>& out, const Exec& exec);

// out[row] = log sum exp(z).
template <class T>
void logsumexp(const Rows<const T>& x, PerRow<T> temperature, T* out, const Exec& exec);

// Softmax over the closed set; then score = sum p level and variance = sum p (level - score)^2. mass, where not null, is
// the share of the closed set in the softmax of the whole row.
template <class T>
struct LevelOut {
  T *score, *variance, *probabilities, *mass;
};
template <class T>
void level_scores(const Rows<const T>& x, Groups groups, const double* levels, PerRow<T> temperature, LevelOut<T> out,
                  const Exec& exec);

}  // namespace SOFTMAP_BACKEND
}  // namespace softmap
