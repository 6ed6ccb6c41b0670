#include "counts.h"

#include "bindings/array.h"
#include "bindings/exec.h"

namespace softmap::bindings {
namespace {

namespace backend = SOFTMAP_BACKEND;

// A column is (C-contiguous array of int8, int32, int64 or float64, int32 array of places or None).
PairColumn column_of(const char* name, const py::tuple& column, Index n_rows) {
  const auto codes = py::cast<py::array>(column[0]);
  PairColumn r{ColumnType::kInt8, codes.data(), codes.size() == 1 && n_rows != 1 ? 0 : 1, nullptr, 0};
  const char kind = codes.dtype().kind();
  if (kind == 'f' && codes.itemsize() == 8) {
    r.type = ColumnType::kDouble;
  } else if (kind == 'i' && codes.itemsize() == 4) {
    r.type = ColumnType::kInt32;
  } else if (kind == 'i' && codes.itemsize() == 8) {
    r.type = ColumnType::kInt64;
  } else if (codes.itemsize() != 1) {
    throw py::type_error(std::string("count_pairs: ") + name + " must be int8, int32, int64 or float64");
  }
  if (r.step == 1 && codes.size() != n_rows) throw py::value_error(std::string("count_pairs: ") + name + " has another length");
  if (!column[1].is_none()) {
    const auto places = py::cast<py::array>(column[1]);
    if (!py::isinstance<py::array_t<std::int32_t, py::array::c_style>>(places)) {
      throw py::type_error(std::string("count_pairs: the places of ") + name + " must be int32");
    }
    r.places = static_cast<const std::int32_t*>(places.data());
    r.n_places = places.size();
  }
  return r;
}

// left, right, wins, losses and ties of the cells, or None where a row is bad. The caller keeps the columns alive.
// groups: None, or their column and number.
py::object count_pairs(const py::tuple& left, const py::tuple& right, const py::tuple& outcome, Index n_rows, Index n_items,
                       py::handle n_threads, const py::object& groups) {
  PairRows rows{column_of("left", left, n_rows),
                column_of("right", right, n_rows),
                column_of("outcome", outcome, n_rows),
                PairColumn{},
                n_rows,
                n_items,
                1};
  if (!groups.is_none()) {
    const auto given = py::cast<py::tuple>(groups);
    rows.group = column_of("groups", py::cast<py::tuple>(given[0]), n_rows);
    rows.n_groups = py::cast<Index>(given[1]);
    if (rows.n_groups < 1 || rows.n_groups > kMostCountedItems / (n_items > 0 ? n_items : 1)) {
      throw py::value_error("count_pairs: too many groups");
    }
  }
  const Run run = run_for("count_pairs", n_threads);
  std::vector<py::array> made;
  const auto make = [](void* context, Index n_cells) {
    const py::gil_scoped_acquire gil;
    auto& arrays = *static_cast<std::vector<py::array>*>(context);
    for (int k = 0; k < 5; ++k) arrays.push_back(new_array<std::int64_t>(Run{1}, {n_cells}));
    std::int64_t* data[5];
    for (int k = 0; k < 5; ++k) data[k] = static_cast<std::int64_t*>(arrays[static_cast<std::size_t>(k)].mutable_data());
    return Cells{data[0], data[1], data[2], data[3], data[4]};
  };
  bool good;
  {
    const ReleaseIf release(n_rows >= kReleaseElements);
    good = backend::count_pairs(rows, make, &made, make_exec(run));
  }
  if (!good) return py::none();
  return py::make_tuple(made[0], made[1], made[2], made[3], made[4]);
}

}  // namespace

void bind_counts(py::module_& m) {
  m.def("count_pairs", &count_pairs, py::arg("left"), py::arg("right"), py::arg("outcome"), py::arg("n_rows"), py::arg("n_items"),
        py::arg("n_threads"), py::arg("groups") = py::none());
}

}  // namespace softmap::bindings
