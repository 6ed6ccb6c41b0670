// Columns of labels become codes 0, 1, ... in the order in which the different labels first appear.
#include <algorithm>
#include <cstring>
#include <iterator>
#include <memory>
#include <stdexcept>

#include "bindings/exec.h"

namespace softmap::bindings {
namespace {

struct Bytes {
  const char* data;
  std::size_t size;
};

// Eight bytes at a time; a shorter end overlaps what was read before.
std::uint64_t hash_of(Bytes key) {
  const auto read = [](const char* p, std::size_t size) {
    std::uint64_t word = 0;
    std::memcpy(&word, p, size);
    return word;
  };
  const auto mixed = [](std::uint64_t h) { return (h ^ h >> 29) * 0x9e3779b97f4a7c15u; };
  std::uint64_t h = key.size * 0xd6e8feb86659fd93u;
  const char* p = key.data;
  std::size_t rest = key.size;
  for (; rest > 8; rest -= 8, p += 8) h = mixed(h ^ read(p, 8));
  if (key.size >= 8) {
    h ^= read(key.data + key.size - 8, 8);
  } else if (key.size >= 4) {
    h ^= read(key.data, 4) << 32 | read(key.data + key.size - 4, 4);
  } else if (key.size > 0) {
    h ^= read(key.data, 1) | read(key.data + key.size / 2, 1) << 8 | read(key.data + key.size - 1, 1) << 16;
  }
  h = mixed(mixed(h));
  return h ^ h >> 32;
}

// Different labels, numbered as they come; linear probing in a table that is at most half full.
class Dictionary {
 public:
  std::int32_t code(Bytes key, Index row) {
    const std::uint64_t h = hash_of(key);
    std::size_t at = h & mask_;
    for (; slots_[at].code >= 0; at = (at + 1) & mask_) {
      const Slot& s = slots_[at];
      if (s.hash == h && s.key.size == key.size && std::memcmp(s.key.data, key.data, key.size) == 0) return s.code;
    }
    if (first_.size() == std::size_t(INT32_MAX)) throw std::length_error("more than 2^31 - 1 different labels");
    const auto fresh = static_cast<std::int32_t>(first_.size());
    slots_[at] = {h, key, fresh};
    first_.push_back(row);
    if (2 * first_.size() > slots_.size()) grow();
    return fresh;
  }
  // The rows where the labels first appear.
  const std::vector<Index>& first() const { return first_; }

 private:
  struct Slot {
    std::uint64_t hash = 0;
    Bytes key{nullptr, 0};
    std::int32_t code = -1;
  };
  void grow() {
    std::vector<Slot> old(2 * slots_.size());
    old.swap(slots_);
    mask_ = slots_.size() - 1;
    for (const Slot& s : old) {
      if (s.code < 0) continue;
      std::size_t at = s.hash & mask_;
      while (slots_[at].code >= 0) at = (at + 1) & mask_;
      slots_[at] = s;
    }
  }
  std::vector<Slot> slots_ = std::vector<Slot>(1024);
  std::size_t mask_ = 1023;
  std::vector<Index> first_;
};

py::array rows_array(const std::vector<Index>& rows) {
  auto out = new_array<std::int64_t>(Run{1}, {static_cast<py::ssize_t>(rows.size())});
  std::copy(rows.begin(), rows.end(), static_cast<std::int64_t*>(out.mutable_data()));
  return out;
}

// Codes of a C-contiguous array of integers or of text of fixed width, equal where the bytes are, and the rows where they are
// new.
py::tuple encode_fixed(const py::array& values) {
  const Index n = values.size(), width = values.itemsize();
  py::array codes = new_array<std::int32_t>(Run{1}, {n});
  auto* const to = static_cast<std::int32_t*>(codes.mutable_data());
  const char* const from = static_cast<const char*>(values.data());
  Dictionary dictionary;
  {
    const ReleaseIf release(n >= kReleaseElements);
    std::int32_t known[256];  // codes of values of one byte
    std::fill(std::begin(known), std::end(known), -1);
    for (Index k = 0; k < n; ++k) {
      const Bytes key{from + k * width, static_cast<std::size_t>(width)};
      if (width > 1) {
        to[k] = dictionary.code(key, k);
      } else {
        std::int32_t& code = known[static_cast<unsigned char>(*key.data)];
        if (code < 0) code = dictionary.code(key, k);
        to[k] = code;
      }
    }
  }
  return py::make_tuple(codes, rows_array(dictionary.first()));
}

// Codes of a list or tuple of hashable objects, equal where a dict says so, and the different ones. Most columns repeat few
// objects: a small cache by address spares the dict.
py::tuple encode_objects(const py::handle& values) {
  const py::ssize_t n = PySequence_Fast_GET_SIZE(values.ptr());
  py::array codes = new_array<std::int32_t>(Run{1}, {n});
  auto* const to = static_cast<std::int32_t*>(codes.mutable_data());
  py::dict place;
  py::list different;
  struct Known {
    PyObject* object;
    std::int32_t code;
  };
  constexpr std::size_t kKnown = 4096;
  std::vector<Known> known(kKnown, Known{nullptr, 0});
  PyObject** const items = PySequence_Fast_ITEMS(values.ptr());
  for (py::ssize_t k = 0; k < n; ++k) {
    PyObject* const x = items[k];
    Known& hit = known[reinterpret_cast<std::uintptr_t>(x) / 16 % kKnown];
    if (hit.object != x) {
      PyObject* found = PyDict_GetItemWithError(place.ptr(), x);
      if (!found && PyErr_Occurred()) throw py::error_already_set();
      if (!found) {
        const py::int_ fresh(place.size());
        if (PyDict_SetItem(place.ptr(), x, fresh.ptr()) < 0) throw py::error_already_set();
        different.append(py::reinterpret_borrow<py::object>(x));
        found = PyDict_GetItemWithError(place.ptr(), x);
      }
      hit = {x, static_cast<std::int32_t>(PyLong_AsLong(found))};
    }
    to[k] = hit.code;
  }
  return py::make_tuple(codes, different);
}

// The Arrow C data and stream interfaces: https://arrow.apache.org/docs/format/CDataInterface.html
struct ArrowSchema {
  const char *format, *name, *metadata;
  std::int64_t flags, n_children;
  ArrowSchema **children, *dictionary;
  void (*release)(ArrowSchema*);
  void* private_data;
};
struct ArrowArray {
  std::int64_t length, null_count, offset, n_buffers, n_children;
  const void** buffers;
  ArrowArray **children, *dictionary;
  void (*release)(ArrowArray*);
  void* private_data;
};
struct ArrowArrayStream {
  int (*get_schema)(ArrowArrayStream*, ArrowSchema*);
  int (*get_next)(ArrowArrayStream*, ArrowArray*);
  const char* (*get_last_error)(ArrowArrayStream*);
  void (*release)(ArrowArrayStream*);
  void* private_data;
};
template <class T>
struct Owned : T {
  Owned() : T{} {}
  ~Owned() {
    if (this->release) this->release(this);
  }
  Owned(const Owned&) = delete;
  Owned& operator=(const Owned&) = delete;
};

// body(bytes) for the texts of a chunk.
template <class Offset, class Body>
void for_strings(const ArrowArray& chunk, Body&& body) {
  const auto* const offsets = static_cast<const Offset*>(chunk.buffers[1]) + chunk.offset;
  const char* const data = static_cast<const char*>(chunk.buffers[2]);
  for (std::int64_t k = 0; k < chunk.length; ++k) {
    body(Bytes{data + offsets[k], static_cast<std::size_t>(offsets[k + 1] - offsets[k])});
  }
}
template <class Body>
void for_views(const ArrowArray& chunk, Body&& body) {
  struct View {
    std::int32_t size;
    char start[4];
    std::int32_t buffer, offset;
  };
  const auto* const views = static_cast<const View*>(chunk.buffers[1]) + chunk.offset;
  for (std::int64_t k = 0; k < chunk.length; ++k) {
    const View& v = views[k];
    const char* const data = v.size <= 12 ? v.start : static_cast<const char*>(chunk.buffers[2 + v.buffer]) + v.offset;
    body(Bytes{data, static_cast<std::size_t>(v.size)});
  }
}
bool has_missing(const ArrowArray& chunk) {
  const auto* const valid = static_cast<const std::uint8_t*>(chunk.buffers[0]);
  if (!valid || chunk.null_count == 0) return false;
  for (std::int64_t k = chunk.offset; k < chunk.offset + chunk.length; ++k) {
    if (!(valid[k / 8] >> k % 8 & 1)) return true;
  }
  return false;
}

// Codes of an Arrow stream of text, and the different texts; None for other types and where a row is missing.
py::object encode_arrow(const py::capsule& capsule) {
  auto* const stream = capsule.get_pointer<ArrowArrayStream>();
  Owned<ArrowSchema> schema;
  if (!stream->release || stream->get_schema(stream, &schema) != 0) return py::none();
  const std::string format = schema.format;
  if (schema.dictionary || (format != "u" && format != "U" && format != "vu")) return py::none();
  std::vector<std::unique_ptr<Owned<ArrowArray>>> chunks;  // alive until the end: the dictionary points into them
  Index n = 0;
  for (;;) {
    auto chunk = std::make_unique<Owned<ArrowArray>>();
    if (stream->get_next(stream, chunk.get()) != 0) return py::none();
    if (!chunk->release) break;
    if (has_missing(*chunk)) return py::none();
    n += chunk->length;
    chunks.push_back(std::move(chunk));
  }
  py::array codes = new_array<std::int32_t>(Run{1}, {n});
  auto* to = static_cast<std::int32_t*>(codes.mutable_data());
  Dictionary dictionary;
  std::vector<Bytes> different;
  {
    const ReleaseIf release(n >= kReleaseElements);
    const auto add = [&](Bytes key) {
      *to = dictionary.code(key, 0);
      if (static_cast<std::size_t>(*to++) == different.size()) different.push_back(key);
    };
    for (const auto& chunk : chunks) {
      if (format == "u") for_strings<std::int32_t>(*chunk, add);
      if (format == "U") for_strings<std::int64_t>(*chunk, add);
      if (format == "vu") for_views(*chunk, add);
    }
  }
  py::list texts;
  for (const Bytes& key : different) texts.append(py::str(key.data, key.size));
  return py::make_tuple(codes, texts);
}

}  // namespace

void bind_labels(py::module_& m) {
  m.def("encode_fixed", &encode_fixed, py::arg("values"));
  m.def("encode_objects", &encode_objects, py::arg("values"));
  m.def("encode_arrow", &encode_arrow, py::arg("stream"));
}

}  // namespace softmap::bindings
