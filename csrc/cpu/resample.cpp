#include "resample.h"

#include "cpu/lanes.h"
#include "cpu/neighbours.h"
#include "cpu/parallel.h"

namespace softmap::cpu {
namespace {

using L = Lanes<double>;

constexpr int kSets = 16;          // data sets that are drawn at once
constexpr Index kCategories = 64;  // a chunk
constexpr double kFewer = 1.5;     // standard deviations: adding rows is faster than taking them out
constexpr int kSteps = 4;          // of that search between two looks at whether it is done
constexpr int kFew = 48;           // entries of a table that is searched from its start

// Vectors of the compiler: of a loop over so few integers it makes no vector instructions.
constexpr int kHalf = kSets / 2;
typedef std::uint64_t Words __attribute__((vector_size(8 * kHalf)));
typedef double Reals __attribute__((vector_size(8 * kHalf)));
typedef std::int32_t Ints __attribute__((vector_size(4 * kHalf)));

// Random bits by counter: Philox4x32-10 of Salmon, Moraes, Dror & Shaw, Parallel random numbers: as easy as 1, 2, 3 (2011).
// Counter word 0 runs over kHalf values from `first`, each of which gives number k and number k + kHalf.
struct Random {
  Words bits[2];

  Random(std::uint64_t key, std::uint64_t first, std::uint64_t word1, std::uint64_t word23) {
    constexpr std::uint64_t kLow = 0xffffffffu;
    std::uint64_t counter[kHalf];
    for (int k = 0; k < kHalf; ++k) counter[k] = (first + static_cast<std::uint64_t>(k)) & kLow;
    Words x0, x1 = Words{} + (word1 & kLow), x2 = Words{} + (word23 & kLow), x3 = Words{} + (word23 >> 32);
    __builtin_memcpy(&x0, counter, sizeof x0);
    std::uint64_t k0 = key & kLow, k1 = key >> 32;
    for (int round = 0; round < 10; ++round) {
      const Words a = 0xD2511F53u * x0, b = 0xCD9E8D57u * x2;
      x0 = (b >> 32) ^ x1 ^ k0;
      x2 = (a >> 32) ^ x3 ^ k1;
      x1 = b & kLow;
      x3 = a & kLow;
      k0 = (k0 + 0x9E3779B9u) & kLow;
      k1 = (k1 + 0xBB67AE85u) & kLow;
    }
    bits[0] = x0 << 32 | x1;
    bits[1] = x2 << 32 | x3;
  }
  // In [0, 1), of 52 bits.
  void uniform(double* to) const {
    for (int half = 0; half < 2; ++half) {
      const Words one_to_two = bits[half] >> 12 | 0x3ff0000000000000u;
      Reals u;
      __builtin_memcpy(&u, &one_to_two, sizeof u);
      u -= 1.;
      __builtin_memcpy(to + half * kHalf, &u, sizeof u);
    }
  }
};

// Poisson numbers by inversion of the distribution function, whose values from `low` on are tabulated.
class Poisson {
 public:
  void make(double mean) {
    constexpr double kEnd = 0x1p-60;  // of the most probable number
    const auto mode = static_cast<Index>(mean);
    chance_.clear();
    double p = 1.;
    for (Index k = mode; k > 0 && (p *= static_cast<double>(k) / mean) > kEnd; --k) chance_.push(p);
    low_ = mode - chance_.size();
    table_.clear();
    double sum = 0.;
    for (Index k = chance_.size() - 1; k >= 0; --k) table_.push(sum += chance_[k]);
    table_.push(sum += 1.);
    p = 1.;
    for (Index k = mode + 1; (p *= mean / static_cast<double>(k)) > kEnd; ++k) table_.push(sum += p);
    const double scale = 1. / sum;
    for (Index k = 0; k < table_.size(); ++k) table_[k] *= scale;
    table_.last() = 2.;  // the rest is less likely than 2^-52
    while (table_.size() % kSteps != 0) table_.push(2.);
    if (table_.size() > kFew) make_guide();
  }
  // One number for each of kSets uniform ones.
  void invert(const double* u, std::int32_t* to) const {
    double at[kSets];
    if (table_.size() <= kFew) {
      search(u, at);
    } else {
      for (int k = 0; k < kSets; ++k) {
        Index i = guide_[static_cast<Index>(u[k] * guide_size_)];
        i += table_[i] <= u[k];
        while (table_[i] <= u[k]) ++i;
        at[k] = static_cast<double>(i);
      }
    }
    for (int k = 0; k < kSets; k += kHalf) {
      Reals x;
      __builtin_memcpy(&x, at + k, sizeof x);
      const Ints drawn = __builtin_convertvector(x, Ints) + static_cast<std::int32_t>(low_);
      __builtin_memcpy(to + k, &drawn, sizeof drawn);
    }
  }

 private:
  // How many entries are not above u.
  void search(const double* u, double* at) const {
    constexpr int n = kSets / L::size;
    L x[n], found[n];
    for (int k = 0; k < n; ++k) {
      x[k] = L::load(u + k * L::size);
      found[k] = L(0.);
    }
    for (Index entry = 0, more = 1; more; entry += kSteps) {
      for (Index j = entry; j < entry + kSteps; ++j) {
        const L bound(table_[j]);
        for (int k = 0; k < n; ++k) found[k] = select(bound <= x[k], found[k] + L(1.), found[k]);
      }
      more = 0;
      for (int k = 0; k < n; ++k) more |= any(L(table_[entry + kSteps - 1]) <= x[k]);
    }
    for (int k = 0; k < n; ++k) found[k].store(at + k * L::size);
  }
  // guide[g] is the first entry above g / size.
  void make_guide() {
    Index size = 64;
    while (size < 2 * table_.size()) size *= 2;
    guide_size_ = static_cast<double>(size);
    guide_.clear();
    const double step = 1. / guide_size_;
    std::int32_t at = 0;
    for (Index g = 0; g < size; ++g) {
      while (table_[at] <= static_cast<double>(g) * step) ++at;
      guide_.push(at);
    }
  }
  Buffer<double> chance_, table_;
  Buffer<std::int32_t> guide_;
  double guide_size_ = 0.;
  Index low_ = 0;
};

// One category at a time, in proportion to its count (Walker 1977; Vose 1991).
class Alias {
 public:
  Alias(const double* counts, Index n) : n_(static_cast<std::uint64_t>(n)), keep_(n), other_(n) {
    double sum = 0.;
    for (Index c = 0; c < n; ++c) sum += counts[c];
    Buffer<Index> small, large;
    const double scale = static_cast<double>(n) / sum;
    for (Index c = 0; c < n; ++c) {
      keep_[c] = counts[c] * scale;
      other_[c] = c;
      (keep_[c] < 1. ? small : large).push(c);
    }
    while (small.size() > 0 && large.size() > 0) {
      const Index s = small.pop(), l = large.last();
      other_[s] = l;
      keep_[l] -= 1. - keep_[s];
      if (keep_[l] < 1.) small.push(large.pop());
    }
    // what rounding left over is full; what cannot be drawn points elsewhere already
    while (small.size() > 0) {
      const Index s = small.pop();
      if (counts[s] > 0.) keep_[s] = 1.;
    }
    while (large.size() > 0) keep_[large.pop()] = 1.;
  }
  Index draw(std::uint64_t bits) const {
    const unsigned __int128 product = static_cast<unsigned __int128>(bits) * n_;
    const auto c = static_cast<Index>(product >> 64);
    const double rest = static_cast<double>(static_cast<std::uint64_t>(product) >> 11) * 0x1p-53;
    return rest < keep_[c] ? c : other_[c];
  }

 private:
  std::uint64_t n_;
  Buffer<double> keep_;
  Buffer<Index> other_;
};

// Rows that are drawn one by one, into column `set` of the counts.
void draw_rows(const Draws& in, const Alias& alias, Index set, Index n_rows, std::int32_t* column) {
  for (Index k = 0; k < n_rows; k += kSets) {
    const Random random(in.key, static_cast<std::uint64_t>(k / 2), static_cast<std::uint64_t>(set), 1);
    std::uint64_t bits[kSets];
    __builtin_memcpy(bits, random.bits, sizeof bits);
    const Index count = n_rows - k < kSets ? n_rows - k : Index(kSets);
    for (Index j = 0; j < count; ++j) ++column[alias.draw(bits[j]) * in.n_sets];
  }
}

// Takes n_rows rows out of column `set` of the counts, every row as likely as any other: what is left is a smaller draw.
void drop_rows(const Draws& in, Index set, Index n_rows, std::int32_t* column, std::int64_t* ends) {
  std::int64_t all = 0;
  for (Index c = 0; c < in.n_categories; ++c) ends[c] = all += column[c * in.n_sets];
  for (Index k = 0; n_rows > 0; k += kSets) {
    const Random random(in.key, static_cast<std::uint64_t>(k / 2), static_cast<std::uint64_t>(set), 2);
    std::uint64_t bits[kSets];
    __builtin_memcpy(bits, random.bits, sizeof bits);
    for (int j = 0; j < kSets && n_rows > 0; ++j) {
      const auto row = static_cast<std::int64_t>(static_cast<unsigned __int128>(bits[j]) * static_cast<std::uint64_t>(all) >> 64);
      Index low = 0, high = in.n_categories;  // the first category whose rows end behind it
      while (low < high) {
        const Index middle = low + (high - low) / 2;
        if (ends[middle] <= row) {
          low = middle + 1;
        } else {
          high = middle;
        }
      }
      std::int32_t& left = column[low * in.n_sets];
      if (row - (low > 0 ? ends[low - 1] : 0) >= left) continue;  // was taken out before
      --left;
      --n_rows;
    }
  }
}

}  // namespace

// Numbers of Poisson for somewhat fewer rows than `total`, then rows one by one to make up the difference: given their sum,
// numbers of Poisson are multinomial, and a multinomial draw stays one when further rows are drawn, or any rows taken out.
void draw_counts(const Draws& in, std::int32_t* out, const Exec& exec) {
  const Index n = in.n_sets, start = in.first / kSets * kSets, end = in.first + n;
  const auto total = static_cast<double>(in.total);
  double sum = 0.;
  for (Index c = 0; c < in.n_categories; ++c) sum += in.counts[c];
  const double scale = in.total < 256 ? 0. : (total - kFewer * __builtin_sqrt(total)) / sum;
  const Alias alias(in.counts, in.n_categories);
  const Index work = in.n_categories * n;
  const int n_slots = slots_for(exec, in.n_categories, kCategories, work);
  const Scratch<std::int64_t> sums(n_slots, n);  // of each data set, by who drew them
  for (int slot = 0; slot < n_slots; ++slot) {
    for (Index k = 0; k < n; ++k) sums[slot][k] = 0;
  }
  parallel_for(exec, in.n_categories, kCategories, work, [&](Index first, Index last, int slot) {
    Poisson poisson;
    std::int32_t drawn[kSets];
    double u[kSets];
    for (Index c = first; c < last; ++c) {
      std::int32_t* const row = out + c * n;
      const double mean = in.counts[c] * scale;
      if (!(mean > 0.)) {
        for (Index k = 0; k < n; ++k) row[k] = 0;
        continue;
      }
      poisson.make(mean);
      for (Index set = start; set < end; set += kSets) {
        const auto pair = static_cast<std::uint64_t>(set / 2), category = static_cast<std::uint64_t>(c);
        Random(in.key, pair, category, category >> 32 << 32).uniform(u);
        poisson.invert(u, drawn);
        const Index at = set - in.first;  // of the first
        if (at >= 0 && at + kSets <= n) {
          __builtin_memcpy(row + at, drawn, sizeof drawn);
        } else {
          for (int k = at < 0 ? static_cast<int>(-at) : 0; k < kSets && at + k < n; ++k) row[at + k] = drawn[k];
        }
      }
      for (Index k = 0; k < n; ++k) sums[slot][k] += row[k];
    }
  });
  const Index n_blocks = (end - start) / kSets + ((end - start) % kSets != 0);
  const Scratch<std::int64_t> ends(slots_for(exec, n_blocks, 1, work), in.n_categories);
  parallel_for(exec, n_blocks, 1, work, [&](Index first, Index last, int slot) {
    for (Index block = first; block < last; ++block) {
      const Index from = start + block * kSets < in.first ? Index(0) : start + block * kSets - in.first;
      const Index to = start + (block + 1) * kSets < end ? start + (block + 1) * kSets - in.first : n;
      for (Index k = from; k < to; ++k) {
        Index rows = in.total;
        for (int by = 0; by < n_slots; ++by) rows -= sums[by][k];
        if (rows < 0) drop_rows(in, in.first + k, -rows, out + k, ends[slot]);
        draw_rows(in, alias, in.first + k, rows, out + k);
      }
    }
  });
}

void weigh_draws(const Weighing& in, double* out, const Exec& exec) {
  const Index n = in.n_sets;
  parallel_for(exec, n, 4 * kSets, in.n_entries * n, [&](Index first, Index last, int) {
    for (Index e = 0; e < in.n_entries; ++e) {
      const std::int32_t* const times = in.times + in.unit[e] * n;
      double* const sum = out + in.category[e] * n;
      const double amount = in.amount[e];
      for (Index k = first; k < last; ++k) sum[k] += amount * static_cast<double>(times[k]);
    }
  });
}

}  // namespace softmap::cpu
