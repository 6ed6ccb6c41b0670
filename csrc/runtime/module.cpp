// `_runtime`: what exists once per process. CPU features and the thread pool.
#include <pthread.h>
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <sched.h>
#if defined(__APPLE__)
#include <sys/sysctl.h>
#endif
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <new>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "runtime/blocks.h"
#include "runtime/pool.h"
#include "runtime/runtime.h"

namespace py = pybind11;

namespace softmap {
namespace {

// Never destroyed: threads may still sleep in it at exit. A forked child has none of the threads, so it gets a new pool.
std::atomic<Pool*> g_pool{new Pool};
constexpr int kMostThreads = 4095;
// 0 where nobody asked for a number.
std::atomic<int> g_set_threads{0}, g_environment_threads{0};

// The environment variable as an integer of at least `least` and at most `most`; nothing where it is unset or empty.
std::optional<long long> environment_number(const char* name, long long least, long long most, const char* rule) {
  const char* const text = std::getenv(name);
  if (!text || *text == '\0') return std::nullopt;
  char* end = nullptr;
  errno = 0;
  const long long n = std::strtoll(text, &end, 10);
  if (end == text || *end != '\0' || errno != 0 || n < least || n > most) {
    throw py::value_error(std::string("softmap: ") + name + " = '" + text + "', it must be " + rule + " (or unset)");
  }
  return n;
}

// OpenMP's own variable: a list has a number for each level of nesting, of which the first counts; what is no number is ignored.
int openmp_threads() {
  const char* const text = std::getenv("OMP_NUM_THREADS");
  char* end = nullptr;
  const long n = text ? std::strtol(text, &end, 10) : 0;
  return text && end != text && (*end == '\0' || *end == ',') && n > 0 && n <= kMostThreads ? static_cast<int>(n) : 0;
}

// Processors that this process may use: affinity, and the quota of the control group (version 2) rounded up.
int usable_cpus() {
  int n = static_cast<int>(std::thread::hardware_concurrency());
#if defined(__linux__)
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) n = CPU_COUNT(&set);
  if (std::FILE* f = std::fopen("/sys/fs/cgroup/cpu.max", "r")) {
    double quota = 0, period = 0;
    if (std::fscanf(f, "%lf %lf", &quota, &period) == 2 && quota > 0 && period > 0) {
      const int limit = static_cast<int>(quota / period + 0.999);
      if (limit < n) n = limit;
    }
    std::fclose(f);
  }
#endif
  return n > 0 ? n : 1;
}

int default_threads() {
  if (const int set = g_set_threads.load(std::memory_order_relaxed)) return set;
  if (const int asked = g_environment_threads.load(std::memory_order_relaxed)) return asked;
  static const int all = usable_cpus();
  return all;
}

void parallel(Index n_chunks, int n_threads, void (*body)(void*, Index, int), void* context) {
  Job job{body, context, n_chunks, n_threads < n_chunks ? n_threads : static_cast<int>(n_chunks)};
  if (job.n_threads <= 1) return job.run(0);
  g_pool.load()->run(job);
}

// Never destroyed: arrays may outlive the module.
Blocks& blocks() {
  static Blocks* const pool = new Blocks;
  return *pool;
}

void read_environment() {
  const std::string rule = "an integer between 1 and " + std::to_string(kMostThreads);
  const auto threads = environment_number("SOFTMAP_NUM_THREADS", 1, kMostThreads, rule.c_str());
  g_environment_threads = threads ? static_cast<int>(*threads) : openmp_threads();
  constexpr long long kMost = std::numeric_limits<long long>::max();
  const auto bytes = environment_number("SOFTMAP_POOL_BYTES", 0, kMost, "a number of bytes, 0 for no pool");
  if (bytes) blocks().limit(static_cast<std::size_t>(*bytes));
}

// 0 where the system does not say.
std::size_t system_cache_bytes([[maybe_unused]] int level) {
#if defined(__linux__)
  // What sysconf says of the third level is, on some processors, all of them in the machine together.
  const std::string name = "/sys/devices/system/cpu/cpu0/cache/index" + std::to_string(level) + "/size";
  std::size_t kib = 0;
  if (std::FILE* f = std::fopen(name.c_str(), "r")) {
    if (std::fscanf(f, "%zuK", &kib) != 1) kib = 0;
    std::fclose(f);
  }
  return kib * 1024;
#elif defined(__APPLE__)
  std::size_t n = 0, size = sizeof n;
  return sysctlbyname(level == 2 ? "hw.perflevel0.l2cachesize" : "hw.l3cachesize", &n, &size, nullptr, 0) == 0 ? n : 0;
#else
  return 0;
#endif
}

void* acquire(std::size_t bytes) { return blocks().enabled() ? blocks().acquire(bytes) : nullptr; }
void release(void* data) { blocks().release(data); }

// A fresh C-contiguous array for a result of the Python layer; a large one from where those of kernels come from.
py::array empty(const std::vector<py::ssize_t>& shape, const py::dtype& dtype) {
  constexpr std::size_t kPoolBytes = std::size_t(1) << 20;
  std::size_t bytes = static_cast<std::size_t>(dtype.itemsize());
  for (const py::ssize_t n : shape) bytes *= static_cast<std::size_t>(n);
  void* const block = bytes >= kPoolBytes ? acquire(bytes) : nullptr;
  if (!block) return py::array(dtype, shape);
  return py::array(dtype, shape, block, py::capsule(block, [](void* p) { release(p); }));
}

// As the system says; where it does not, what processors of servers have at least.
std::size_t cache_bytes(int level) {
  static const std::size_t sizes[2] = {system_cache_bytes(2), system_cache_bytes(3)};
  const std::size_t given = sizes[level - 2];
  return given > 0 ? given : level == 2 ? std::size_t(1) << 20 : std::size_t(16) << 20;
}

const Runtime kRuntime{&parallel, &default_threads, &acquire, &release, &cache_bytes};

// True where both the processor and the operating system support the instruction sets of a backend.
bool supports(const std::string& isa) {
#if defined(__x86_64__)
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  if (isa == "avx2") return avx2;
  if (isa == "avx512") {
    return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
  }
#endif
  return isa == "base";
}

}  // namespace
}  // namespace softmap

PYBIND11_MODULE(_runtime, m, py::mod_gil_not_used()) {
  using namespace softmap;
  m.doc() = "Threads and CPU features of softmap, once per process.";
  pthread_atfork([] { blocks().lock(); }, [] { blocks().unlock(); },
                 [] {
                   blocks().unlock();
                   g_pool.store(new (std::nothrow) Pool);
                 });
  m.attr("capsule") = py::capsule(&kRuntime, kRuntimeCapsule);
  m.def("read_environment", &read_environment);
  m.def("supports", &supports, py::arg("isa"));
  m.def("num_threads", &default_threads);
  m.def("set_num_threads", [](int n) { g_set_threads = n; }, py::arg("n"));
  m.def("get_set_threads", [] { return g_set_threads.load(); });
  m.def("empty", &empty, py::arg("shape"), py::arg("dtype"));
  m.def("release_memory", [] { return blocks().trim(); });
}
