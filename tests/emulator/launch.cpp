// Launches: what a device would refuse, which blocks are resident, whose turn it is; and the calls of the runtime.
#include <dlfcn.h>

#include <algorithm>
#include <bit>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <unordered_map>
#include <utility>

#include "machine.h"

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace emulator {

Machine machine;

namespace {

std::unordered_map<const void*, int> most_dynamic_shared, large_clusters;  // by kernel, as set by cudaFuncSetAttribute
int last_error = 0, later_error = 0;

int number_from(const char* variable, int otherwise) {
  const char* const text = getenv(variable);
  return text && *text ? atoi(text) : otherwise;
}

int refuse(const char* why) {
  fprintf(stderr, "[emulator] launch refused: %s\n", why);
  return last_error = int(cudaErrorInvalidConfiguration);
}

// A line for each launch in the file that SOFTMAP_EMULATOR_TRACE names: where in its module the kernel lies.
void write_trace(const void* kernel) {
  const char* const path = getenv("SOFTMAP_EMULATOR_TRACE");
  FILE* const file = path && *path ? fopen(path, "a") : nullptr;
  if (!file) return;
  Dl_info found{};
  dladdr(kernel, &found);
  fprintf(file, "%zx\n", size_t(static_cast<const char*>(kernel) - static_cast<const char*>(found.dli_fbase)));
  fclose(file);
}

bool read_schedule(Schedule& schedule) {
  const char* const text = getenv("SOFTMAP_EMULATOR_SCHEDULE");
  const std::string name = text && *text ? text : "forward";
  schedule = {};
  if (name == "forward") return true;
  schedule.order = name == "reverse" ? Schedule::kReverse : Schedule::kRandom;
  if (name == "reverse") return true;
  char* end = nullptr;
  schedule.state = strtoull(name.c_str(), &end, 10);
  return *end == '\0';
}

const char* objection(const Launch& launch, size_t n_threads, size_t n_blocks) {
  const unsigned cluster = launch.cluster;
  if (n_threads == 0 || n_threads > 1024) return "a block has 1 to 1024 threads";
  if (n_blocks == 0 || launch.grid.y > 65535 || launch.grid.z > 65535) return "size of the grid";
  if (launch.dynamic_shared > kMostShared) return "more than 227 KiB of dynamic shared memory";
  if (launch.dynamic_shared > kStaticShared && most_dynamic_shared[launch.kernel] < int(launch.dynamic_shared)) {
    return "more than 48 KiB of dynamic shared memory without cudaFuncAttributeMaxDynamicSharedMemorySize";
  }
  if (cluster == 0 || cluster > 16 || launch.grid.x % cluster) return "a cluster has 1 to 16 blocks and divides the grid";
  if (cluster > 8 && !large_clusters[launch.kernel]) {
    return "a cluster of more than 8 blocks without cudaFuncAttributeNonPortableClusterSizeAllowed";
  }
  return nullptr;
}

// Blocks that are resident together: all of a cooperative launch, otherwise whole clusters.
size_t resident_blocks(const Launch& launch, size_t n_blocks) {
  if (launch.cooperative) return n_blocks;
  const size_t wanted = size_t(number_from("SOFTMAP_EMULATOR_RESIDENT", __tsan_create_fiber ? 3 : 1)), cluster = launch.cluster;
  const size_t clusters = wanted / cluster > 0 ? wanted / cluster : 1;
  return clusters * cluster < n_blocks ? clusters * cluster : n_blocks;
}

bool make_room(size_t n_blocks, size_t n_threads) {
  while (machine.pool.size() < n_blocks * n_threads) {
    Fiber* const fiber = new_fiber();
    if (!fiber) return false;
    fiber->place = machine.pool.size();
    machine.pool.push_back(fiber);
  }
  while (machine.arenas.size() < n_blocks) {
    machine.arenas.push_back(new Arena{static_cast<unsigned char*>(aligned_alloc(1024, (kArena + 1023) / 1024 * 1024)), {}});
  }
  return true;
}

// Uninitialised shared memory reads as NaN, and the sanitizer of addresses knows what is none of the kernel's.
void clear(const Arena& arena, size_t dynamic_shared) {
  if (__asan_unpoison_memory_region) __asan_unpoison_memory_region(arena.memory, kArena);
  memset(arena.memory, 0xff, kStaticShared + dynamic_shared + kRedZone);
  if (!__asan_poison_memory_region) return;
  __asan_poison_memory_region(arena.memory, kStaticShared);
  __asan_poison_memory_region(arena.memory + kStaticShared + dynamic_shared, kArena - kStaticShared - dynamic_shared);
}

// The blocks of one time, with their threads.
struct Residents {
  std::vector<Block> blocks;
  std::vector<Cluster> clusters;
  size_t n_threads;

  Residents(const std::vector<size_t>& indices, size_t threads, size_t turn)
      : blocks(indices.size()), clusters(indices.size() / machine.launch->cluster), n_threads(threads) {
    const Launch& launch = *machine.launch;
    for (size_t k = 0; k < blocks.size(); ++k) {
      Block& block = blocks[k];
      const size_t i = indices[k];
      block.index = {unsigned(i % launch.grid.x), unsigned(i / launch.grid.x % launch.grid.y),
                     unsigned(i / launch.grid.x / launch.grid.y)};
      block.rank = unsigned(k % launch.cluster);
      block.cluster = &clusters[k / launch.cluster];
      if (block.rank == 0) {
        block.cluster->before = &machine.arenas[k]->token[turn % 2];
        block.cluster->after = &machine.arenas[k]->token[1 - turn % 2];
      }
      block.cluster->blocks.push_back(&block);
      block.cluster->live += int(threads);
      block.live = int(threads);
      block.arena = machine.arenas[k];
      block.warps.resize((threads + 31) / 32);
      clear(*block.arena, launch.dynamic_shared);
      for (size_t t = 0; t < threads; ++t) {
        Fiber& fiber = *machine.pool[k * threads + t];
        fiber.block = &block;
        fiber.number = int(t);
        fiber.thread = {unsigned(t % launch.block.x), unsigned(t / launch.block.x % launch.block.y),
                        unsigned(t / launch.block.x / launch.block.y)};
        block.warps[fiber.warp()].live |= 1u << fiber.lane();
        prepare(&fiber);
        machine.ready.insert(fiber.place);
      }
    }
  }
  ~Residents() {
    if (!__asan_unpoison_memory_region) return;
    for (const Block& block : blocks) __asan_unpoison_memory_region(block.arena->memory, kArena);
  }
  Residents(const Residents&) = delete;
  Residents& operator=(const Residents&) = delete;

  std::string who_waits() const {
    std::string text;
    int shown = 0;
    for (size_t i = 0; i < blocks.size() * n_threads && shown < 4; ++i) {
      const Fiber& fiber = *machine.pool[i];
      if (fiber.state == Fiber::kDone) continue;
      text += (shown++ ? ", " : "") + std::string("thread ") + std::to_string(fiber.number) + " of block " +
              std::to_string(fiber.block->index.x) + " at " + text_of(fiber.waits_at);
    }
    return text;
  }
  // Runs all threads to their end, or to the first failure.
  void finish() const {
    constexpr int kMostRests = 100'000;
    int rests = 0;
    for (size_t left = blocks.size() * n_threads; left > 0 && machine.error.empty();) {
      if (machine.ready.empty()) {
        if (machine.resting.empty()) return fail("deadlock: " + who_waits());
        if (++rests > kMostRests) return fail("threads wait for ever in a loop: " + who_waits());
        for (const Fiber* fiber : machine.resting) machine.ready.insert(fiber->place);
        machine.resting.clear();
      }
      Fiber* const fiber = machine.pool[machine.ready.take(machine.schedule)];
      run(fiber);
      left -= fiber->state == Fiber::kDone;
    }
  }
};

// The order in which blocks become resident: clusters stay together.
std::vector<size_t> order_of(size_t n_blocks, size_t cluster, Schedule& schedule) {
  std::vector<size_t> first(n_blocks / cluster), order;
  for (size_t k = 0; k < first.size(); ++k) first[k] = k * cluster;
  if (schedule.order == Schedule::kReverse) std::reverse(first.begin(), first.end());
  if (schedule.order == Schedule::kRandom) {
    for (size_t k = first.size(); k > 1; --k) std::swap(first[k - 1], first[schedule.below(k)]);
  }
  for (size_t start : first) {
    for (size_t rank = 0; rank < cluster; ++rank) order.push_back(start + rank);
  }
  return order;
}

}  // namespace

void fail(const std::string& what) {
  if (!machine.error.empty()) return;
  machine.error = what;
  fprintf(stderr, "[emulator] %s\n", what.c_str());
}

std::string text_of(const Site& site) {
  if (!site.line) return site.what;
  const char* const slash = strrchr(site.file, '/');
  return std::string(site.what) + " (" + (slash ? slash + 1 : site.file) + ":" + std::to_string(site.line) + ")";
}

size_t Schedule::below(size_t n) {  // splitmix64
  uint64_t z = state += 0x9e3779b97f4a7c15u;
  z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
  z = (z ^ z >> 27) * 0x94d049bb133111ebu;
  return size_t((z ^ z >> 31) % n);
}

void ReadySet::clear(size_t n) {
  words_.assign((n + 63) / 64, 0);
  count_ = 0;
}
void ReadySet::insert(size_t place) {
  words_[place / 64] |= uint64_t(1) << place % 64;
  ++count_;
}
// The first place from the bits of a word on, around the end.
size_t ReadySet::next_from(size_t word, uint64_t first_bits) const {
  uint64_t bits = words_[word] & first_bits;
  while (!bits) bits = words_[word = word + 1 == words_.size() ? 0 : word + 1];
  return word * 64 + size_t(std::countr_zero(bits));
}
size_t ReadySet::take(Schedule& schedule) {
  size_t place;
  if (schedule.order == Schedule::kReverse) {
    size_t word = words_.size() - 1;
    while (!words_[word]) --word;
    place = word * 64 + 63 - size_t(std::countl_zero(words_[word]));
  } else {
    const size_t start = schedule.order == Schedule::kForward ? 0 : schedule.below(words_.size() * 64);
    place = next_from(start / 64, ~uint64_t(0) << start % 64);
  }
  words_[place / 64] &= ~(uint64_t(1) << place % 64);
  --count_;
  return place;
}

int launch(const Launch& launch, const std::function<void()>& body) {
  static std::mutex one_at_a_time;
  const std::lock_guard<std::mutex> lock(one_at_a_time);
  const Quiet quiet;
  const size_t n_threads = size_t(launch.block.x) * launch.block.y * launch.block.z;
  const size_t n_blocks = size_t(launch.grid.x) * launch.grid.y * launch.grid.z;
  if (const char* why = objection(launch, n_threads, n_blocks)) return refuse(why);
  if (!read_schedule(machine.schedule)) return refuse("SOFTMAP_EMULATOR_SCHEDULE is not forward, reverse or a seed");
  const size_t at_once = resident_blocks(launch, n_blocks);
  if (!make_room(at_once, n_threads)) return refuse("no memory for so many threads at once");
  write_trace(launch.kernel);
  blockDim = launch.block;
  gridDim = launch.grid;
  machine.launch = &launch;
  machine.body = &body;
  machine.error.clear();
  machine.grid = {};
  machine.grid_live = int(n_blocks * n_threads);
  machine.resting.clear();
  const auto order = order_of(n_blocks, launch.cluster, machine.schedule);
  const size_t n_run = number_from("SOFTMAP_EMULATOR_OMIT", 0) ? n_blocks - launch.cluster : n_blocks;
  release(&machine.begin);
  for (size_t first = 0; first < n_run && machine.error.empty(); first += at_once) {
    const size_t n = at_once < n_run - first ? at_once : n_run - first;
    machine.ready.clear(n * n_threads);
    const Residents residents({order.begin() + ptrdiff_t(first), order.begin() + ptrdiff_t(first + n)}, n_threads,
                              first / at_once);
    residents.finish();
  }
  acquire(&machine.end);
  if (!machine.error.empty()) {  // threads that are not at their end
    for (Fiber* fiber : machine.pool) drop(fiber);
    machine.pool.clear();
  }
  if (number_from("SOFTMAP_EMULATOR_FAIL", 0)) later_error = int(cudaErrorLaunchFailure);
  return last_error = machine.error.empty() ? 0 : int(cudaErrorLaunchFailure);
}

}  // namespace emulator

cudaError_t cudaFuncSetAttribute(const void* kernel, cudaFuncAttribute attribute, int value) {
  if (attribute == cudaFuncAttributeMaxDynamicSharedMemorySize) {
    if (value > int(emulator::kMostShared)) return cudaErrorInvalidValue;
    emulator::most_dynamic_shared[kernel] = value;
  } else {
    emulator::large_clusters[kernel] = value;
  }
  return cudaSuccess;
}
cudaError_t cudaGetLastError() {
  const auto error = static_cast<cudaError_t>(emulator::last_error);
  emulator::last_error = 0;
  return error;
}
cudaError_t cudaStreamSynchronize(cudaStream_t) { return static_cast<cudaError_t>(std::exchange(emulator::later_error, 0)); }
cudaError_t cudaGetDeviceCount(int* n) {
  *n = 1;
  return cudaSuccess;
}
const char* cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "no error";
    case cudaErrorInvalidConfiguration:
      return "invalid configuration argument";
    case cudaErrorLaunchFailure:
      return emulator::machine.error.empty() ? "launch failure" : emulator::machine.error.c_str();
    default:
      return "invalid argument";
  }
}
cudaError_t cudaDeviceGetAttribute(int* value, cudaDeviceAttr attribute, int) {
  switch (attribute) {
    case cudaDevAttrMultiProcessorCount:
      *value = emulator::number_from("SOFTMAP_EMULATOR_SMS", 1);
      break;
    case cudaDevAttrL2CacheSize:
      *value = 1 << 20;
      break;
    case cudaDevAttrComputeCapabilityMajor:
      *value = 9;
      break;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
      *value = 228 * 1024;
      break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
      *value = int(emulator::kMostShared);
      break;
    case cudaDevAttrCooperativeLaunch:
    case cudaDevAttrClusterLaunch:
      *value = 1;
      break;
  }
  return cudaSuccess;
}
