// Runtime of the CPU block emulator. Build this file WITHOUT -fsanitize=thread (its own
// bookkeeping is not part of the kernel); the __tsan_* hooks are weak and used when present.
#include "cuda_emulator.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>
#include <random>
#include <string>
#include <unordered_map>
#include <vector>
extern "C" {
void* __attribute__((weak)) __tsan_create_fiber(unsigned flags);
void __attribute__((weak)) __tsan_switch_to_fiber(void* f, unsigned flags);
void* __attribute__((weak)) __tsan_get_current_fiber();
void __attribute__((weak)) __tsan_acquire(void*);
void __attribute__((weak)) __tsan_release(void*);
void __attribute__((weak)) AnnotateIgnoreReadsBegin(const char*, int);
void __attribute__((weak)) AnnotateIgnoreReadsEnd(const char*, int);
void __attribute__((weak)) AnnotateIgnoreWritesBegin(const char*, int);
void __attribute__((weak)) AnnotateIgnoreWritesEnd(const char*, int);
void __attribute__((weak)) __sanitizer_start_switch_fiber(void** save, const void* bottom, size_t size);
void __attribute__((weak)) __sanitizer_finish_switch_fiber(void* save, const void** bottom, size_t* size);
void __attribute__((weak)) __asan_poison_memory_region(void const volatile*, size_t);
void __attribute__((weak)) __asan_unpoison_memory_region(void const volatile*, size_t);
void emulator_switch(void** save_sp, void* to_sp);
}
#if defined(__x86_64__)
asm(".text\n.globl emulator_switch\n.type emulator_switch,@function\nemulator_switch:\n"
    "pushq %rbp\npushq %rbx\npushq %r12\npushq %r13\npushq %r14\npushq %r15\n"
    "movq %rsp,(%rdi)\nmovq %rsi,%rsp\n"
    "popq %r15\npopq %r14\npopq %r13\npopq %r12\npopq %rbx\npopq %rbp\nret\n.size emulator_switch,.-emulator_switch\n");
#else
#error "add a context switch for this CPU (ucontext works too)"
#endif
uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;
#undef __syncthreads
namespace emulator {
namespace {
// libtsan intercepts memcpy/malloc/free even from this uninstrumented file: ignore them while inside.
struct Quiet {
  Quiet() {
    if (AnnotateIgnoreReadsBegin) {
      AnnotateIgnoreReadsBegin("", 0);
      AnnotateIgnoreWritesBegin("", 0);
    }
  }
  ~Quiet() {
    if (AnnotateIgnoreReadsEnd) {
      AnnotateIgnoreWritesEnd("", 0);
      AnnotateIgnoreReadsEnd("", 0);
    }
  }
};
struct Fiber;
struct Group {  // rendezvous of the lanes of one mask
  unsigned mask;
  unsigned here = 0;
  uint64_t gen = 0;
  const char* op = "";
  int line = 0;
  std::vector<Fiber*> wait;
  alignas(16) unsigned char slot[2][32][16];
};
struct Warp {
  unsigned live = 0;
  std::vector<Group*> groups;
};
struct Block {
  unsigned id;
  std::vector<Warp> warps;
  int live = 0, arrived = 0;
  std::vector<Fiber*> wait;
  const char* file = "";
  int line = 0;
  unsigned char* arena = nullptr;
  size_t used = 0;
  std::map<const void*, size_t> sites;
  unsigned rank = 0;
  char token;
};
enum State { Ready, Wait, Done };
struct Fiber {
  View v;
  Block* b;
  int lin;
  State st;
  void* sp;
  unsigned char* stk;
  void* tsan;
  void* fake;
  const char* why;
  int line;
};
constexpr size_t ARENA = 256 * 1024;
size_t STACK = 64 * 1024;
struct Rt {
  std::vector<Fiber*> pool;
  std::vector<unsigned char*> arenas;
  std::vector<Fiber*> ready;
  size_t nlive = 0;
  void* main_sp = nullptr;
  void* main_tsan = nullptr;
  void* main_fake = nullptr;
  const void* main_bot = nullptr;
  size_t main_size = 0;
  Fiber* me = nullptr;
  const Body* body = nullptr;
  const Cfg* cfg = nullptr;
  char tok_begin, tok_end, tok_fence;
  std::vector<Fiber*> cl_wait;
  int cl_here = 0;
  std::vector<Block*> blocks;
  int strict = 1;
  std::string err;
  std::mt19937 rng;
  uint64_t switches = 0;
} R;
std::unordered_map<const void*, int> maxdyn;
int last_err = 0;

void fail(const std::string& s) {
  if (R.err.empty()) {
    R.err = s;
    fprintf(stderr, "[emulator] %s\n", s.c_str());
  }
}
void to_main() {
  Fiber* f = R.me;
  ++R.switches;
  if (__sanitizer_start_switch_fiber) __sanitizer_start_switch_fiber(f->st == Done ? nullptr : &f->fake, R.main_bot, R.main_size);
  if (__tsan_switch_to_fiber) __tsan_switch_to_fiber(R.main_tsan, 1);
  emulator_switch(&f->sp, R.main_sp);
  if (__sanitizer_finish_switch_fiber) __sanitizer_finish_switch_fiber(f->fake, &R.main_bot, &R.main_size);
}
void block_on(const char* why, int line) {
  R.me->st = Wait;
  R.me->why = why;
  R.me->line = line;
  to_main();
}
void wake(std::vector<Fiber*>& w) {
  for (Fiber* f : w) {
    f->st = Ready;
    R.ready.push_back(f);
  }
  w.clear();
}
void check_bar(Block* b) {
  if (b->arrived && b->arrived == b->live) {
    b->arrived = 0;
    wake(b->wait);
  }
}
void check_group(Warp& w, Group* g) {
  if (g->here && g->here == (g->mask & w.live)) {
    g->here = 0;
    ++g->gen;
    wake(g->wait);
  }
}
void check_cluster() {
  if (R.cl_here && size_t(R.cl_here) == R.nlive) {
    R.cl_here = 0;
    wake(R.cl_wait);
  }
}
extern "C" void emulator_entry() {
  if (__sanitizer_finish_switch_fiber) __sanitizer_finish_switch_fiber(nullptr, &R.main_bot, &R.main_size);
  if (__tsan_acquire) __tsan_acquire(&R.tok_begin);
  (*R.body)();
  if (__tsan_release) __tsan_release(&R.tok_end);
  {
    Quiet quiet;
    Fiber* f = R.me;
    Warp& w = f->b->warps[size_t(f->lin / 32)];
    f->st = Done;
    w.live &= ~(1u << (f->lin & 31));
    --f->b->live;
    --R.nlive;
    if (f->b->live == 0 && R.cfg->cluster > 1) {  // a finished CTA's shared memory is gone for its cluster
      if (__asan_unpoison_memory_region) __asan_unpoison_memory_region(f->b->arena, ARENA + 48 * 1024);
      memset(f->b->arena, 0xff, 48 * 1024 + R.cfg->smem);
      if (__asan_poison_memory_region) __asan_poison_memory_region(f->b->arena, ARENA + 48 * 1024);
    }
    if (R.strict && f->b->arrived)
      fail("a thread exited while others wait at __syncthreads (line " + std::to_string(f->b->line) + ")");
    check_bar(f->b);
    for (Group* g : w.groups) check_group(w, g);
    check_cluster();
  }
  to_main();
  abort();
}
void start(Fiber* f) {
  void** sp = reinterpret_cast<void**>(f->stk + STACK - 64);
  sp = reinterpret_cast<void**>(reinterpret_cast<uintptr_t>(sp) & ~uintptr_t(15));
  *--sp = nullptr;
  *--sp = reinterpret_cast<void*>(&emulator_entry);
  for (int i = 0; i < 6; ++i) *--sp = nullptr;
  f->sp = sp;
  f->st = Ready;
  f->fake = nullptr;
}
Warp& warp() { return R.me->b->warps[size_t(R.me->lin / 32)]; }
Group* group(unsigned mask, const char* op, int line) {
  Warp& w = warp();
  const unsigned bit = 1u << (R.me->lin & 31);
  if (!(mask & bit)) fail(std::string(op) + " line " + std::to_string(line) + ": calling lane is not in its own mask");
  if (mask & ~w.live) {
    if (R.strict) fail(std::string(op) + " line " + std::to_string(line) + ": mask names lanes that do not exist or have exited");
  }
  Group* g = nullptr;
  for (Group* q : w.groups)
    if (q->mask == mask) g = q;
  if (!g) {
    g = new Group;
    g->mask = mask;
    w.groups.push_back(g);
  }
  if (!g->here) {
    g->op = op;
    g->line = line;
  } else if (g->line != line || strcmp(g->op, op))
    fail(std::string("warp divergence: lanes meet at ") + g->op + " line " + std::to_string(g->line) + " and " + op + " line " +
         std::to_string(line));
  return g;
}
void meet(Group* g, const char* op, int line) {
  if (__tsan_release) __tsan_release(g);
  g->here |= 1u << (R.me->lin & 31);
  if (g->here == (g->mask & warp().live)) {
    g->here = 0;
    ++g->gen;
    wake(g->wait);
  } else {
    g->wait.push_back(R.me);
    block_on(op, line);
  }
  if (__tsan_acquire) __tsan_acquire(g);
}
}  // namespace
int lane() { return R.me->lin & 31; }
void fence() {
  if (__tsan_release) {
    __tsan_release(&R.tok_fence);
    __tsan_acquire(&R.tok_fence);
  }
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
}
void yield() {
  Quiet quiet;
  R.ready.push_back(R.me);
  to_main();
}
void syncthreads(const char* f, int l) {
  Quiet quiet;
  Block* b = R.me->b;
  if (b->arrived && (b->line != l || strcmp(b->file, f)) && R.strict)
    fail(std::string("divergent __syncthreads: lines ") + std::to_string(b->line) + " and " + std::to_string(l));
  b->file = f;
  b->line = l;
  if (R.strict && b->live != int(b->warps.size() ? R.cfg->block.x * R.cfg->block.y * R.cfg->block.z : 0))
    fail("__syncthreads line " + std::to_string(l) + " after some threads exited");
  if (__tsan_release) __tsan_release(&b->token);
  if (++b->arrived == b->live) {
    b->arrived = 0;
    wake(b->wait);
  } else {
    b->wait.push_back(R.me);
    block_on("__syncthreads", l);
  }
  if (__tsan_acquire) __tsan_acquire(&b->token);
}
void rendezvous(unsigned mask, const char* op, int line) {
  Quiet quiet;
  meet(group(mask, op, line), op, line);
}
void exchange(unsigned mask, const void* in, void* out, int n, int src, const char* op, int line) {
  Quiet quiet;
  Group* g = group(mask, op, line);
  const unsigned buf = g->gen & 1;
  memcpy(g->slot[buf][R.me->lin & 31], in, size_t(n));
  // registers carry no happens-before: do not let shuffles order memory (they do not on hardware)
  g->here |= 1u << (R.me->lin & 31);
  if (g->here == (g->mask & warp().live)) {
    g->here = 0;
    ++g->gen;
    wake(g->wait);
  } else {
    g->wait.push_back(R.me);
    block_on(op, line);
  }
  if (mask >> src & 1u) memcpy(out, g->slot[buf][src], size_t(n));  // else: stays poison
}
unsigned gather_pred(unsigned mask, bool p, const char* op, int line) {
  Quiet quiet;
  Group* g = group(mask, op, line);
  const unsigned buf = g->gen & 1;
  const int me = R.me->lin & 31;
  g->slot[buf][me][0] = p;
  g->here |= 1u << me;
  if (g->here == (g->mask & warp().live)) {
    g->here = 0;
    ++g->gen;
    wake(g->wait);
  } else {
    g->wait.push_back(R.me);
    block_on(op, line);
  }
  unsigned r = 0;
  for (int i = 0; i < 32; ++i)
    if ((mask >> i & 1u) && g->slot[buf][i][0]) r |= 1u << i;
  return r;
}
void* shared_static(const void* site, size_t bytes, size_t align) {
  Quiet quiet;
  Block* b = R.me->b;
  auto it = b->sites.find(site);
  if (it == b->sites.end()) {
    size_t o = (b->used + align - 1) / align * align;
    b->used = o + bytes + 32;  // 32: red zone
    if (o + bytes > 48 * 1024) fail("static shared memory over 48 KiB");
    if (__asan_unpoison_memory_region) __asan_unpoison_memory_region(b->arena + o, bytes);
    it = b->sites.emplace(site, o).first;
  }
  return b->arena + it->second;
}
void* shared_dyn() { return R.me->b->arena + 48 * 1024; }
unsigned cluster_rank() { return R.me->b->rank; }
unsigned cluster_size() { return R.cfg->cluster; }
void* map_shared(void* p, unsigned rank) {
  Block* b = R.me->b;
  ptrdiff_t o = static_cast<unsigned char*>(p) - b->arena;
  return R.blocks[rank]->arena + o;
}
void cluster_sync(int line) {
  Quiet quiet;
  if (__tsan_release) __tsan_release(&R.cl_here);
  if (size_t(++R.cl_here) == R.nlive) {
    R.cl_here = 0;
    wake(R.cl_wait);
  } else {
    R.cl_wait.push_back(R.me);
    block_on("cluster_sync", line);
  }
  if (__tsan_acquire) __tsan_acquire(&R.cl_here);
}
void grid_sync(int line) { cluster_sync(line); }

int launch(const Cfg& c, const void* fn, const char* name, const Body& body) {
  static std::mutex one_at_a_time;
  const std::lock_guard<std::mutex> lock(one_at_a_time);
  Quiet quiet;
  const size_t nt = size_t(c.block.x) * c.block.y * c.block.z, nb = size_t(c.grid.x) * c.grid.y * c.grid.z;
  auto bad = [&](const char* why) {
    fprintf(stderr, "[emulator] launch refused: %s (%s)\n", why, name);
    return last_err = int(cudaErrorInvalidConfiguration);
  };
  if (nt == 0 || nt > 1024) return bad("block size");
  if (nb == 0 || c.grid.y > 65535 || c.grid.z > 65535) return bad("grid size");
  if (c.smem > 227 * 1024) return bad("dynamic shared memory over 227 KiB");
  if (c.smem > 48 * 1024 && maxdyn[fn] < int(c.smem))
    return bad("dynamic shared memory over 48 KiB without cudaFuncSetAttribute");
  if (c.cluster > 1 && (c.grid.x % c.cluster || c.cluster > 16)) return bad("cluster size");
  const char* e = getenv("SOFTMAP_EMULATOR_SEED");
  const unsigned seed = e ? unsigned(atoi(e)) : 0u;
  R.rng.seed(seed);
  e = getenv("SOFTMAP_EMULATOR_RESIDENT");
  size_t resident = e ? size_t(atoi(e)) : (__tsan_create_fiber ? 3 : 1);
  e = getenv("SOFTMAP_EMULATOR_STRICT");
  R.strict = e ? atoi(e) : 1;
  if (__asan_unpoison_memory_region || __tsan_create_fiber) STACK = 128 * 1024;
  const size_t grp = c.coop ? nb : c.cluster > 1 ? c.cluster : std::min(resident, nb);
  while (R.pool.size() < grp * nt) {
    Fiber* f = new Fiber{};
    f->stk = static_cast<unsigned char*>(
        mmap(nullptr, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    if (f->stk == MAP_FAILED) return bad("out of fiber stacks");
    f->tsan = __tsan_create_fiber ? __tsan_create_fiber(0) : nullptr;
    R.pool.push_back(f);
  }
  while (R.arenas.size() < grp) R.arenas.push_back(static_cast<unsigned char*>(aligned_alloc(1024, ARENA + 48 * 1024)));
  std::vector<size_t> order(nb);
  for (size_t i = 0; i < nb; ++i) order[i] = i;
  if (seed && !c.coop && c.cluster <= 1) std::shuffle(order.begin(), order.end(), R.rng);
  blockDim = c.block;
  gridDim = c.grid;
  R.cfg = &c;
  R.body = &body;
  R.err.clear();
  if (__tsan_get_current_fiber) R.main_tsan = __tsan_get_current_fiber();
  for (size_t g0 = 0; g0 < nb && R.err.empty(); g0 += grp) {
    const size_t n = std::min(grp, nb - g0);
    R.ready.clear();
    R.nlive = n * nt;
    R.blocks.clear();
    R.cl_here = 0;
    R.cl_wait.clear();
    for (size_t k = 0; k < n; ++k) {
      const size_t id = order[g0 + k];
      Block* b = new Block;
      b->arena = R.arenas[k];
      b->live = int(nt);
      b->rank = unsigned(k);
      R.blocks.push_back(b);
      if (__asan_unpoison_memory_region) __asan_unpoison_memory_region(b->arena, ARENA + 48 * 1024);
      memset(b->arena, 0xff, 48 * 1024 + c.smem);  // uninitialised shared memory reads as NaN
      if (__asan_poison_memory_region) {
        __asan_poison_memory_region(b->arena, 48 * 1024);
        __asan_poison_memory_region(b->arena + 48 * 1024 + c.smem, ARENA - c.smem);
      }
      b->warps.resize((nt + 31) / 32);
      for (size_t t = 0; t < nt; ++t) {
        Fiber* f = R.pool[k * nt + t];
        f->b = b;
        f->lin = int(t);
        b->warps[t / 32].live |= 1u << (t & 31);
        f->v.tid = {unsigned(t % c.block.x), unsigned(t / c.block.x % c.block.y), unsigned(t / c.block.x / c.block.y)};
        f->v.bid = {unsigned(id % c.grid.x), unsigned(id / c.grid.x % c.grid.y), unsigned(id / c.grid.x / c.grid.y)};
        start(f);
        R.ready.push_back(f);
      }
    }
    if (seed == 0)
      std::reverse(R.ready.begin(), R.ready.end());
    else
      std::shuffle(R.ready.begin(), R.ready.end(), R.rng);
    if (__tsan_release) __tsan_release(&R.tok_begin);
    size_t left = n * nt;
    while (left) {
      if (R.ready.empty()) {
        std::string s = "deadlock in " + std::string(name).substr(0, 160) + ":";
        for (size_t i = 0, shown = 0; i < n * nt && shown < 8; ++i)
          if (R.pool[i]->st == Wait) {
            ++shown;
            s += " thread " + std::to_string(R.pool[i]->lin) + " at " + R.pool[i]->why + " line " +
                 std::to_string(R.pool[i]->line) + ";";
          }
        fail(s);
        break;
      }
      // schedules: 0 LIFO; odd seeds random thread; even seeds starve all blocks but one as long as possible
      if (seed && R.ready.size() > 1) {
        size_t pick = R.rng() % R.ready.size();
        if (seed % 2 == 0 && R.me) {
          for (size_t i = 0; i < R.ready.size(); ++i)
            if (R.ready[i]->b == R.me->b) {
              pick = i;
              break;
            }
        }
        std::swap(R.ready[pick], R.ready.back());
      }
      Fiber* f = R.ready.back();
      R.ready.pop_back();
      R.me = f;
      threadIdx = f->v.tid;
      blockIdx = f->v.bid;
      ++R.switches;
      if (__sanitizer_start_switch_fiber) __sanitizer_start_switch_fiber(&R.main_fake, f->stk, STACK);
      if (__tsan_switch_to_fiber) __tsan_switch_to_fiber(f->tsan, 1);
      emulator_switch(&R.main_sp, f->sp);
      if (__sanitizer_finish_switch_fiber) __sanitizer_finish_switch_fiber(R.main_fake, nullptr, nullptr);
      if (f->st == Done) --left;
      if (!R.err.empty()) break;
    }
    if (__tsan_acquire) __tsan_acquire(&R.tok_end);
    for (Block* b : R.blocks) {
      for (Warp& w : b->warps)
        for (Group* q : w.groups) delete q;
      delete b;
    }
    if (__asan_unpoison_memory_region)
      for (size_t k = 0; k < n; ++k) __asan_unpoison_memory_region(R.arenas[k], ARENA + 48 * 1024);
  }
  R.me = nullptr;
  if (getenv("SOFTMAP_EMULATOR_STATS"))
    fprintf(stderr, "[emulator] %zu blocks x %zu threads, %llu switches\n", nb, nt, static_cast<unsigned long long>(R.switches));
  R.switches = 0;
  return last_err = R.err.empty() ? 0 : int(cudaErrorLaunchFailure);
}
}  // namespace emulator
cudaError_t cudaFuncSetAttribute(const void* f, cudaFuncAttribute a, int v) {
  if (a == cudaFuncAttributeMaxDynamicSharedMemorySize) {
    if (v > 227 * 1024) return cudaErrorInvalidValue;
    emulator::maxdyn[f] = v;
  }
  return cudaSuccess;
}
cudaError_t cudaGetLastError() {
  auto e = static_cast<cudaError_t>(emulator::last_err);
  emulator::last_err = 0;
  return e;
}
cudaError_t cudaGetDeviceCount(int* n) {
  *n = 1;
  return cudaSuccess;
}
const char* cudaGetErrorString(cudaError_t e) {
  return e == cudaSuccess                     ? "no error"
         : e == cudaErrorInvalidConfiguration ? "invalid configuration argument"
         : e == cudaErrorLaunchFailure        ? (emulator::R.err.empty() ? "unspecified launch failure" : emulator::R.err.c_str())
                                              : "invalid argument";
}
// A small emulated chip (SOFTMAP_EMULATOR_SMS, default 1) makes persistent grids loop, so row-to-row reuse of
// shared memory is exercised by small tests.
cudaError_t cudaDeviceGetAttribute(int* v, cudaDeviceAttr a, int) {
  const char* e = getenv("SOFTMAP_EMULATOR_SMS");
  *v = a == cudaDevAttrMultiProcessorCount ? (e ? atoi(e) : 1) : a == cudaDevAttrComputeCapabilityMajor ? 9 : 227 * 1024;
  return cudaSuccess;
}
