// What a thread of a kernel calls: barriers, shuffles, shared memory.
#include <bit>

#include "machine.h"

namespace emulator {
namespace {

void wake(Fiber* fiber) {
  fiber->state = Fiber::kReady;
  machine.ready.insert(fiber->place);
}

// Returns the phase in which it arrives.
uint64_t arrive(Meeting& meeting, int live, Site site) {
  if (meeting.here++ == 0) meeting.site = site;
  const uint64_t phase = meeting.phase;
  open_if_all_are_here(meeting, live);
  return phase;
}
// The last one who arrives waits as well, until it is its turn again.
void wait(Meeting& meeting, uint64_t phase, Site site) {
  if (meeting.phase == phase) {
    meeting.waiting.push_back(machine.running);
    give_up(Fiber::kWaits, site);
  } else {
    machine.ready.insert(machine.running->place);
    give_up(Fiber::kReady, site);
  }
}
void* token_of(Meeting& meeting, uint64_t phase) { return &meeting.token[phase & 1]; }

void meet(Meeting& meeting, int live, Site site) {
  release(token_of(meeting, meeting.phase));
  const uint64_t phase = arrive(meeting, live, site);
  wait(meeting, phase, site);
  acquire(token_of(meeting, phase));
}

bool same(const Site& a, const Site& b) { return a.line == b.line && !strcmp(a.what, b.what) && !strcmp(a.file, b.file); }

int live_of(const Warp& warp, const Lanes& lanes) { return std::popcount(lanes.mask & warp.live); }

Warp& my_warp() { return machine.running->block->warps[machine.running->warp()]; }

Lanes& lanes_of(unsigned mask, Site site) {
  Warp& warp = my_warp();
  if (!(mask >> machine.running->lane() & 1u)) fail(text_of(site) + ": the calling lane is not in its own mask");
  if (mask & ~warp.live) fail(text_of(site) + ": the mask names lanes that do not exist or have come to their end");
  const auto found = warp.by_mask.find(mask);
  Lanes& lanes = found != warp.by_mask.end() ? found->second : warp.by_mask.emplace(mask, Lanes{mask, {}, {}}).first->second;
  if (lanes.meeting.here > 0 && !same(lanes.meeting.site, site)) {
    fail("divergent lanes meet at " + text_of(lanes.meeting.site) + " and at " + text_of(site));
  }
  return lanes;
}

}  // namespace

void open_if_all_are_here(Meeting& meeting, int live) {
  if (meeting.here == 0 || meeting.here < live) return;
  meeting.here = 0;
  ++meeting.phase;
  for (Fiber* fiber : meeting.waiting) wake(fiber);
  meeting.waiting.clear();
}

int lane() { return machine.running->lane(); }

void fence() {
  release(&machine.fence);
  acquire(&machine.fence);
  __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

void rest() {
  const Quiet quiet;
  machine.resting.push_back(machine.running);
  give_up(Fiber::kReady, {"__nanosleep", "", 0});
}

void meet_block(Site site) {
  const Quiet quiet;
  Block& block = *machine.running->block;
  const dim3& size = machine.launch->block;
  if (block.meeting.here > 0 && !same(block.meeting.site, site)) {
    fail("divergent barrier: threads of a block wait at " + text_of(block.meeting.site) + " and at " + text_of(site));
  }
  if (block.live < int(size.x * size.y * size.z)) fail(text_of(site) + ": some threads of the block have come to their end");
  meet(block.meeting, block.live, site);
}

int meet_block_counting(bool yes, Site site) {
  Block& block = *machine.running->block;
  const auto now = block.meeting.phase % 3;
  block.said_true[now] += yes;
  block.said_true[(now + 1) % 3] = 0;
  meet_block(site);
  return block.said_true[now];
}

void meet_warp(unsigned mask, Site site) {
  const Quiet quiet;
  Lanes& lanes = lanes_of(mask, site);
  meet(lanes.meeting, live_of(my_warp(), lanes), site);
}

// Registers order no memory, on a device as here: the thread sanitizer is told nothing.
void exchange(unsigned mask, const void* in, void* out, int n, int source, Site site) {
  const Quiet quiet;
  Lanes& lanes = lanes_of(mask, site);
  auto& slot = lanes.slot[lanes.meeting.phase & 1];
  memcpy(slot[lane()], in, size_t(n));
  wait(lanes.meeting, arrive(lanes.meeting, live_of(my_warp(), lanes), site), site);
  if (mask >> source & 1u) memcpy(out, slot[source], size_t(n));  // otherwise it stays poison
}

unsigned ballot(unsigned mask, bool yes, Site site) {
  const Quiet quiet;
  Lanes& lanes = lanes_of(mask, site);
  auto& slot = lanes.slot[lanes.meeting.phase & 1];
  slot[lane()][0] = yes;
  wait(lanes.meeting, arrive(lanes.meeting, live_of(my_warp(), lanes), site), site);
  unsigned all = 0;
  for (int i = 0; i < 32; ++i) all |= (mask >> i & 1u) && slot[i][0] ? 1u << i : 0u;
  return all;
}

void* shared_static(const void* key, size_t bytes, size_t align, Site site) {
  const Quiet quiet;
  Block& block = *machine.running->block;
  unsigned char* const memory = block.arena->memory;
  auto found = block.shared.find(key);
  if (found == block.shared.end()) {
    const size_t start = (block.used + align - 1) / align * align;
    block.used = start + bytes + kRedZone;
    if (block.used > kStaticShared) fail(text_of(site) + ": more than 48 KiB of static shared memory");
    if (__asan_unpoison_memory_region) __asan_unpoison_memory_region(memory + start, bytes);
    found = block.shared.emplace(key, Block::Array{start, bytes, site}).first;
  }
  return memory + found->second.start;
}

void* shared_dynamic() { return machine.running->block->arena->memory + kStaticShared; }

void check_red_zones(const Block& block) {
  const unsigned char* const memory = block.arena->memory;
  const auto check = [&](size_t from, const Site& site) {
    for (size_t i = 0; i < kRedZone; ++i) {
      if (memory[from + i] != 0xff) return fail(text_of(site) + ": a thread wrote past its end");
    }
  };
  for (const auto& [key, array] : block.shared) check(array.start + array.bytes, array.site);
  check(kStaticShared + machine.launch->dynamic_shared, {"dynamic shared memory", "", 0});
}

unsigned cluster_rank() { return machine.running->block->rank; }
unsigned cluster_size() { return machine.launch->cluster; }

void cluster_arrive(bool orders, const char* file, int line) {
  const Quiet quiet;
  Cluster& cluster = *machine.running->block->cluster;
  if (orders) release(token_of(cluster.meeting, cluster.meeting.phase));
  machine.running->cluster_phase = arrive(cluster.meeting, cluster.live, {"cluster_arrive", file, line});
}
void cluster_wait(const char* file, int line) {
  const Quiet quiet;
  Cluster& cluster = *machine.running->block->cluster;
  const uint64_t phase = machine.running->cluster_phase;
  wait(cluster.meeting, phase, {"cluster_wait", file, line});
  acquire(token_of(cluster.meeting, phase));
}
void* map_shared(void* p, unsigned rank) {
  const Block& mine = *machine.running->block;
  return mine.cluster->blocks[rank]->arena->memory + (static_cast<unsigned char*>(p) - mine.arena->memory);
}

void grid_sync(const char* file, int line) {
  const Quiet quiet;
  const Site site{"grid_sync", file, line};
  if (!machine.launch->cooperative) fail(text_of(site) + ": the launch is not cooperative");
  meet(machine.grid, machine.grid_live, site);
}

void leave(Fiber* fiber) {
  Block& block = *fiber->block;
  Warp& warp = block.warps[fiber->warp()];
  warp.live &= ~(1u << fiber->lane());
  --block.live, --block.cluster->live, --machine.grid_live;
  if (block.meeting.here > 0) fail("a thread came to its end while others of its block wait at " + text_of(block.meeting.site));
  for (const auto& [mask, lanes] : warp.by_mask) {
    if (lanes.meeting.here == 0 || !(mask >> fiber->lane() & 1u)) continue;
    fail("a lane came to its end while others wait for it at " + text_of(lanes.meeting.site));
  }
  open_if_all_are_here(block.cluster->meeting, block.cluster->live);
  open_if_all_are_here(machine.grid, machine.grid_live);
  if (block.live > 0) return;
  check_red_zones(block);
  if (machine.launch->cluster < 2) return;
  unsigned char* const memory = block.arena->memory;  // is gone, for the rest of the cluster as well
  if (__asan_unpoison_memory_region) __asan_unpoison_memory_region(memory, kArena);
  memset(memory, 0xff, kArena);
  if (__asan_poison_memory_region) __asan_poison_memory_region(memory, kArena);
}

}  // namespace emulator
